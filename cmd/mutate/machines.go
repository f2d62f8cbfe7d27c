package main

// machines are the defects of rows H1 to H6.
var machines = []mutation{
	{
		row: "H6", defect: "each machine decides by its own secret", file: "vnicbridge/hashsecret.go",
		old: `	if !cfg.Key.IsZero() {`, new: `	if false {`,
	}, {
		row: "H6", defect: "the programs keep the key with which they began", file: "vnicbridge/internal/kernel/rules_linux.go",
		old: `	k.plane.hashKey = [2]uint64{r.Key.K0, r.Key.K1}`, new: `	if k.sets <= 1 {
		k.plane.hashKey = [2]uint64{r.Key.K0, r.Key.K1}
	}`,
	},
}
