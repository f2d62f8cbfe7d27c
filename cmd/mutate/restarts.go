package main

// restarts are the defects of rows R1 to R7.
var restarts = []mutation{
	{
		row: "R1", defect: "a successor does not know the flows", file: "vnicbridge/successor.go",
		old: `p.path.Adopt(flow.SavedFrom(saved), numbers)`, new: `p.path.Adopt(flow.SavedFrom(saved[:0]), numbers)`, tests: "integration.TestUpgrade",
	}, {
		row: "R1", defect: "the sites' listening sockets are made anew", file: "sites/stream.go",
		old: `if file := s.inherited.files.Take(s.at.file()); file != nil {`, new: `if file := s.inherited.files.Take("no " + s.at.file()); file != nil {`, tests: "integration.TestUpgrade",
	}, {
		row: "R1", defect: "shifts are lost", file: "vnicbridge/internal/flow/saved.go",
		old: `		f.shift[i].Store(word)`, new: `		f.shift[i].Store(word & 0)`, tests: "flow.TestSavedFlows",
	}, {
		row: "R1", defect: "the ports of the old listeners close before the new ones open", file: "vnicbridge/successor.go",
		old: `			h.ports = append(h.ports, p.open.Open(segment, port))`, new: `			p.open.Open(segment, port)()`, tests: "vnicbridge.TestAPortStaysOpenUntilTheSuccessorListens",
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
		row: "R2", defect: "a successor that fails ends the sites' listening sockets", file: "sites/stream.go",
		old: `	if !socket.isOwn() {`, new: `	if false {`, tests: "sites.TestFailedSuccessorTakesNothing",
	}, {
		row: "R2", defect: "a successor accepts connections before it has started", file: "sites/stream.go",
		old: `	if from.left != nil {`, new: `	if false {`, tests: "sites.TestFailedSuccessorTakesNothing",
	}, {
		row: "R3", defect: "a restart removes the devices", file: "vnicbridge/plane.go",
		old: `		if p.kept() {`, new: `		if false {`, tests: "integration.TestRestart",
	}, {
		row: "R3", defect: "the sites' listening sockets are not kept", file: "caddymodule/internal/upgrade/keeper_linux.go",
		old: `{k.Sockets.Files, k.Sockets.PacketFiles}`, new: `{k.Sockets.PacketFiles}`, tests: "integration.TestRestart",
	}, {
		row: "R3", defect: "the sites accept connections until their servers shut down", file: "caddymodule/internal/upgrade/keeper_linux.go",
		old: "	k.Sockets.Yield()\n", tests: "integration.TestRestart",
	}, {
		row: "R4", defect: "the programs end with the process", file: "vnicbridge/internal/kernel/remains_linux.go",
		old: `	return succession.Files{linkFile(p.Name): file}, err`, new: `	_ = file.Close()
	return nil, err`, tests: "integration.TestRestart",
	}, {
		row: "R4", defect: "the flows that are left are not known", file: "vnicbridge/internal/kernel/remains_linux.go",
		old: `flows = append(flows, f.Save())`, new: `_ = f`, tests: "integration.TestRestart",
	}, {
		row: "R4", defect: "the guard ends with the process", file: "vnicbridge/internal/host/guard_linux.go",
		old: `	return succession.Files{guardFile: file}, err`, new: `	_ = file.Close()
	return nil, err`, tests: "integration.TestRestart",
	}, {
		row: "R5", defect: "maps of another layout are read", file: "vnicbridge/remains_linux.go",
		old: `layout != r.note.Layout || `, new: `layout == "" || `, tests: "integration.TestColdRestart",
	}, {
		row: "R5", defect: "files that cannot be taken over are not dropped", file: "caddymodule/internal/upgrade/keeper_linux.go",
		old: `		return nil, k.store.Clear()`, new: `		return nil, nil`, tests: "integration.TestColdRestart",
	}, {
		row: "R5", defect: "a device that the configuration changes is taken over as it is", file: "vnicbridge/successor.go",
		old: `		if wanted[key] == device.Identity || `, new: `		if device.Identity != "" || `, tests: "integration.TestRestartWithAnotherConfiguration",
	}, {
		row: "R5", defect: "a device that is gone is taken over", file: "vnicbridge/internal/host/lives_linux.go",
		old: `	if err != nil {
		return false
	}`, new: `	if err == nil {
		return true
	}`, tests: "integration.TestRestartWithoutADevice",
	}, {
		row: "R6", defect: "what was set by hand is forgotten", file: "vnicbridge/successor.go",
		old: `	maps.Copy(p.states, s.States)`, new: ``, tests: "integration.TestUpgradeKeepsWhatIsKnown",
	}, {
		row: "R6", defect: "a successor announces the address", file: "vnicbridge/internal/link/saved.go",
		old: `	e.claimed, e.standby = true, false`, new: `	e.claimed, e.standby, e.announces = true, false, AnnounceCount`, tests: "integration.TestUpgradeKeepsWhatIsKnown",
	}, {
		row: "R6", defect: "a successor does not know who has the addresses", file: "vnicbridge/successor.go",
		old: `	p.restoreRoles(s.Roles)`, new: `	p.restoreRoles(nil)`, tests: "integration.TestUpgradeWithFailover",
	}, {
		row: "R7", defect: "the old process stays", file: "caddymodule/internal/upgrade/predecessor_linux.go",
		old: "	go u.end()\n", tests: "integration.TestUpgradeKeepsWhatIsKnown",
	},
}
