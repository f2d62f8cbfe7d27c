package main

// load are the defects of rows L1 to L6.
var load = []mutation{
	{
		row: "L1", defect: "the flow table grows without bound", file: "vnicbridge/flowtable.go",
		old: `	for t.counts.flows.Add(1) > t.counts.limit.Load() {`, new: `	for t.counts.flows.Add(1) > int64(len(t.records)) {`,
	}, {
		row: "L1", defect: "the flow table grows beyond its bound", file: "vnicbridge/bpf/admit.h",
		old: `if (__sync_fetch_and_add(&plane.flows, 1) < plane.limit)`, new: `if (__sync_fetch_and_add(&plane.flows, 1) < plane.capacity)`,
	}, {
		row: "L1", defect: "established flows make room", file: "vnicbridge/eviction.go",
		old: `{classHalfOpen, classClosing, classICMP, classUDP}`, new: `{classEstablished, classHalfOpen, classClosing, classICMP, classUDP}`,
	}, {
		row: "L1", defect: "nothing makes room", file: "vnicbridge/makeroom.go",
		old: `	for range t.room() {` + "\n		v, ok", new: "	for range 0 {\n		v, ok",
	}, {
		row: "L1", defect: "the busiest flow makes room", file: "vnicbridge/survey.go",
		old: `int32(c.before-v.lastSeen) >= 0`, new: `int32(c.before-v.lastSeen) < 0`,
	}, {
		row: "L1", defect: "a flow costs more than is said", file: "vnicbridge/flowtable.go",
		old: `const FlowBytes = 162`, new: `const FlowBytes = 100`,
	}, {
		row: "L2", defect: "what is fresh is not spared", file: "vnicbridge/survey.go",
		old: `uint32(spareTime>>clockShift)); c.left`, new: `0); c.left`,
	}, {
		row: "L2", defect: "who completes a handshake late is refused", file: "vnicbridge/pickup.go",
		old: `!ok || !h.goesOn(a.in, a.now)`, new: `ok || !h.goesOn(a.in, a.now)`,
	}, {
		row: "L2", defect: "any host has the VNICs configured", file: "vnicbridge/maintain.go",
		old: "	if c.gateway {\n", new: "	if true {\n",
	}, {
		row: "L3", defect: "a lost device stays lost", file: "vnicbridge/devices.go",
		old:   "			p.log.Error(\"a device is lost: trying to get it back\"",
		new:   "			return\n			p.log.Error(\"a device is lost: trying to get it back\"",
		tests: "integration.TestFaults",
	}, {
		row: "L3", defect: "the flows of a lost device are not known until it is back", file: "vnicbridge/datapaths.go",
		old: `	if port.closed.Load() {` + "\n		d.forwarder.forget", new: "	if true {\n		d.forwarder.forget",
	}, {
		row: "L3", defect: "what others change of a VNIC stays so", file: "vnicbridge/maintain.go",
		old: "	p.configureVNICs()\n	p.reportObstacles()", new: "	p.reportObstacles()",
		tests: "integration.TestVNICIsPutBack",
	}, {
		row: "L4", defect: "a reload makes every VNIC anew", file: "vnicbridge/apply.go",
		old: `if old := living.segments[name]; old != nil && old.spec == spec {`, new: `if old := living.segments[name]; old != nil && old.spec == spec && false {`,
		tests: "integration.TestReloadKeepsConnections",
	}, {
		row: "L4", defect: "a reload that fails leaves its devices", file: "vnicbridge/apply.go",
		old: "	for _, port := range t.made {\n		t.p.closePort(port)\n	}\n", new: "",
		tests: "vnicbridge.TestAFailingReloadChangesNothing",
	}, {
		row: "L5", defect: "a stop leaves the devices", file: "vnicbridge/plane.go",
		old: "	for _, port := range p.ports() {\n		p.closePort(port)\n	}\n	idle", new: "	idle",
	}, {
		row: "L5", defect: "a killed instance's filter goes on", file: "vnicbridge/bpf/bridge.c",
		old: `if (needs_heartbeat && bpf_ktime_get_ns() - plane.heartbeat > HEARTBEAT_NS)`, new: `if (0)`,
		tests: "integration.TestKilledUnderLoad",
	}, {
		row: "L5", defect: "the rules of a killed instance stay", file: "vnicbridge/sourcerule_linux.go",
		old: `if err == nil && len(routes) == 0 {`, new: `if err == nil && len(routes) < 0 {`,
		tests: "integration.TestPreserveLeavesNoRule",
	}, {
		row: "L5", defect: "what comes out of a pair is the host's to see", file: "vnicbridge/veth_linux.go",
		old: `v.outer.ensureSysctls, v.outer.ensureDeadEnd, `, new: `v.outer.ensureSysctls, `,
		tests: "integration.TestKilledNetnsSegmentIsApart",
	}, {
		row: "L5", defect: "what a killed instance left is taken for a living one's", file: "vnicbridge/ownership_linux.go",
		old: `return errors.Is(err, unix.ECONNREFUSED)`, new: `return errors.Is(err, unix.ENOTSOCK)`,
		tests: "integration.TestContainerIsRestarted",
	}, {
		row: "L5", defect: "what a living instance has is taken for a killed one's", file: "vnicbridge/ownership_linux.go",
		old: `return errors.Is(err, unix.ECONNREFUSED)`, new: `return !errors.Is(err, unix.ENOTSOCK)`,
		tests: "integration.TestContainersAreToldApart",
	}, {
		row: "L6", defect: "short IP headers are read", file: "vnicbridge/packet.go",
		old: "	if len(ip) < ipv4MinLen {\n		return p, dropMalformed\n	}\n	total", new: "	total",
	}, {
		row: "L6", defect: "short ICMP messages are read", file: "vnicbridge/packet.go",
		old: "	if len(p.l4) < icmpHeaderLen {\n		return dropMalformed\n	}\n", new: "",
	}, {
		row: "L6", defect: "data offsets beyond the segment are believed", file: "vnicbridge/packet.go",
		old: ` || int(l4[12]>>4)*4 > len(l4) {`, new: ` {`,
	}, {
		row: "L7", defect: "a next hop's MAC changes at any rate", file: "vnicbridge/neighbour.go",
		old: ` && now-e.changed < int64(lockTime):`, new: ` && false:`,
	}, {
		row: "L7", defect: "a MAC that was not taken in is never asked about", file: "vnicbridge/neighbour.go",
		old: `e.contested = true // once`, new: `// once`,
	}, {
		row: "L7", defect: "frames wait for hosts without a bound", file: "vnicbridge/neighbour.go",
		old: ` || n.waiting+len(f.data) > maxWaitingBytes {`, new: ` {`,
	}, {
		row: "L7", defect: "ARP has no budget", file: "vnicbridge/bpf/bridge.c",
		old: `else if (!b || !spend(b, ARP_PACKETS, ARP_INTERVALS))`, new: `else if (!b)`,
	}, {
		row: "L7", defect: "all ARP has one budget", file: "vnicbridge/bpf/bridge.c",
		old: `index = self * ARP_KINDS + kind;`, new: `index = self * ARP_KINDS;`,
	}, {
		row: "L7", defect: "ARP has no budget", file: "vnicbridge/bpf/letin.c",
		old: `if (!spend(&state.arp[kind], ARP_PACKETS, ARP_INTERVALS))`, new: `if (false)`,
	}, {
		row: "L7", defect: "all ARP has one budget", file: "vnicbridge/bpf/letin.c",
		old: `&state.arp[kind]`, new: `&state.arp[0]`,
	}, {
		row: "L7", defect: "a line is logged as often as a packet causes it", file: "vnicbridge/loglimit.go",
		old: `if w.written < logBurst {`, new: `if true {`, tests: "vnicbridge.TestNeighboursCannotFillTheLog",
	}, {
		row: "L7", defect: "what follows from the gateway's MAC counts as changed from outside", file: "vnicbridge/vnicsetup_linux.go",
		old: `if differed && !ours[step.name] {`, new: `if differed {`, tests: "integration.TestNeighbourFloods",
	},
}
