package main

// restarts are the defects of rows R1 to R7.
var restarts = []mutation{
	{
		row: "R1", defect: "a successor does not know the flows", file: "vnicbridge/successor.go",
		old: `p.path.Adopt(flow.SavedFrom(saved), numbers)`, new: `p.path.Adopt(flow.SavedFrom(saved[:0]), numbers)`, tests: "integration.TestUpgrade",
	}, {
		row: "R1", defect: "the sites' listening sockets are made anew", file: "sites/stream.go",
		old: `if file := s.inherited.Take(s.at.file()); file != nil {`, new: `if file := s.inherited.Take(""); file != nil {`, tests: "integration.TestUpgrade",
	}, {
		row: "R1", defect: "shifts are lost", file: "vnicbridge/internal/flow/saved.go",
		old: `		f.shift[i].Store(word)`, new: `		f.shift[i].Store(word & 0)`, tests: "flow.TestSavedFlows",
	}, {
		row: "R1", defect: "the ports of the old listeners close before the new ones open", file: "vnicbridge/successor.go",
		old: `			h.ports = append(h.ports, p.open.Open(segment, port))`, new: `			p.open.Open(segment, port)()`, tests: "integration.TestUpgrade",
	}, {
		row: "R2", defect: "the old process does not go on", file: "caddymodule/internal/upgrade/predecessor_linux.go",
		old: "		u.Plane.Resume()\n", tests: "integration.TestFailedUpgrade",
	}, {
		row: "R2", defect: "a new file of the program is not found after the old one was moved away", file: "caddymodule/internal/upgrade/predecessor_linux.go",
		old: `	if programErr != nil {`, new: `	program, programErr := os.Executable()
	if programErr != nil {`, tests: "integration.TestFailedUpgrade",
	}, {
		row: "R2", defect: "a successor that fails removes the devices", file: "vnicbridge/internal/host/machine_linux.go",
		old: `	m.shared.Store(true)`, new: `	m.shared.Store(false)`, tests: "integration.TestFailedUpgrade",
	}, {
		row: "R6", defect: "what was set by hand is forgotten", file: "vnicbridge/successor.go",
		old: `	maps.Copy(p.states, s.States)`, new: ``, tests: "integration.TestUpgradeKeepsWhatIsKnown",
	}, {
		row: "R6", defect: "a successor announces the address", file: "vnicbridge/internal/link/saved.go",
		old: `	e.claimed = true`, new: `	e.claimed, e.announces = true, AnnounceCount`, tests: "integration.TestUpgradeKeepsWhatIsKnown",
	}, {
		row: "R7", defect: "the old process stays", file: "caddymodule/internal/upgrade/predecessor_linux.go",
		old: "	go u.end()\n", tests: "integration.TestUpgradeKeepsWhatIsKnown",
	},
}
