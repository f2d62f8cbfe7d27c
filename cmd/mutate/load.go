package main

// load are the defects of rows L1 to L6.
var load = []mutation{
	{
		row: "L1", defect: "the flow table grows without bound", file: `vnicbridge/internal/flow/table.go`,
		old: `	for t.Counts.Flows.Add(1) > t.Counts.Limit.Load() {`, new: `	for t.Counts.Flows.Add(1) > int64(len(t.Records)) {`,
	}, {
		row: "L1", defect: "the flow table grows beyond its bound", file: "vnicbridge/internal/bpf/open.h",
		old: `if (__sync_fetch_and_add(&plane.flows, 1) < plane.limit)`, new: `if (__sync_fetch_and_add(&plane.flows, 1) < plane.capacity)`,
	}, {
		row: "L1", defect: "established flows are evicted first", file: `vnicbridge/internal/flow/eviction.go`,
		old: `{ClassHalfOpen, ClassClosing, ClassICMP, ClassUDP}`, new: `{ClassEstablished, ClassHalfOpen, ClassClosing, ClassICMP, ClassUDP}`,
	}, {
		row: "L1", defect: "no flow is evicted", file: `vnicbridge/internal/flow/makeroom.go`,
		old: `	for range t.room() {` + "\n		v, ok", new: "	for range 0 {\n		v, ok",
	}, {
		row: "L1", defect: "the busiest flow is evicted", file: `vnicbridge/internal/flow/survey.go`,
		old: `int32(c.before-v.lastSeen) >= 0`, new: `int32(c.before-v.lastSeen) < 0`,
	}, {
		row: "L1", defect: "flows with later packets than a new one make no room", file: "vnicbridge/internal/flow/survey.go",
		old: `	if age == 0 {`, new: `	if false {`, tests: "flow.TestRoomAmongBusierFlows",
	}, {
		row: "L1", defect: "a flow costs more memory than stated", file: `vnicbridge/internal/flow/table.go`,
		old: `const FlowBytes = 162`, new: `const FlowBytes = 100`,
	}, {
		row: "L1", defect: "a table may be larger than its bound", file: `vnicbridge/internal/flow/table.go`,
		old: `	return RecordsFor(maxFlows) == len(t.Records) &&`, new: `	return RecordsFor(maxFlows) <= len(t.Records) &&`,
	}, {
		row: "L1", defect: "who keeps the table busy keeps others out", file: "vnicbridge/internal/flow/table.go",
		old: `!t.evict(now) && !t.evictOfCrowd(now, opener)`, new: `!t.evict(now)`, tests: "vnicbridge.TestBusyConnectionsMakeRoomForOthers",
	}, {
		row: "L1", defect: "a flood of one sender evicts others' flows", file: "vnicbridge/internal/flow/survey.go",
		old: `	if 2*of[most] <= sample {`, new: `	if true {`, tests: "vnicbridge.TestOneSendersFloodSparesOthers",
	}, {
		row: "L1", defect: "who has few flows makes room for who has more", file: "vnicbridge/internal/flow/crowd.go",
		old: `2*c.of[packet.SiteOf(opener)] >= c.of[c.site]`, new: `false`, tests: "vnicbridge.TestBusyConnectionsMakeRoomForOthers",
	}, {
		row: "L1", defect: "a segment has more flows than it may", file: "vnicbridge/internal/bpf/flowlimit.h",
		old: `if (flows_of(g) < l->flows)`, new: `if (true)`, tests: "vnicbridge.TestLimitOfFlows",
	}, {
		row: "L1", defect: "a segment has more flows than it may", file: "vnicbridge/internal/flow/limits.go",
		old: `return most == 0 || t.flowsOf(number) < most || t.makeRoomAt(number, now)`, new: `return most == 0 || number > 0`, tests: "vnicbridge.TestLimitOfFlows",
	}, {
		row: "L1", defect: "a limit does not count IPv6", file: "vnicbridge/internal/bpf/flowlimit.h",
		old: `return g->flows + (other ? other->flows : 0);`, new: `return g->flows + (other ? 0 : 0);`, tests: "vnicbridge.TestLimitOfFlows",
	}, {
		row: "L1", defect: "a limit does not count IPv6", file: "vnicbridge/internal/flow/limits.go",
		old: `other != 0 {
		flows +=`, new: `other == number {
		flows +=`, tests: "vnicbridge.TestLimitOfFlows",
	}, {
		row: "L1", defect: "at a limit established connections make room", file: "vnicbridge/internal/flow/limits.go",
		old: `	case ClassEstablished, superseded:
		return false
`, new: `	case superseded:
		return false
	case ClassEstablished:
		return true
`, tests: "vnicbridge.TestLimitOfFlows",
	}, {
		row: "L1", defect: "more flows of a segment begin in a second than may", file: "vnicbridge/internal/bpf/flowlimit.h",
		old: `	__sync_fetch_and_add(&l->spent, l->cost);
`, new: ``, tests: "vnicbridge.TestLimitOfNewFlows",
	}, {
		row: "L1", defect: "more flows of a segment begin in a second than may", file: "vnicbridge/internal/flow/limits.go",
		old: `	l.Spent.Add(l.Cost.Load())
`, new: ``, tests: "vnicbridge.TestLimitOfNewFlows",
	}, {
		row: "L1", defect: "a pause saves up flows without bound", file: "vnicbridge/internal/bpf/flowlimit.h",
		old: `> NEW_BURST)`, new: `> 100 * NEW_BURST)`, tests: "vnicbridge.TestLimitOfNewFlows",
	}, {
		row: "L1", defect: "a client has more flows than it may", file: "vnicbridge/internal/bpf/flowlimit.h",
		old: `	return DROP_LIMIT;
}

// Counts a packet`, new: `	return KEEP;
}

// Counts a packet`, tests: "vnicbridge.TestLimitOfFlowsPerClient",
	}, {
		row: "L1", defect: "a client has more flows than it may", file: "vnicbridge/internal/flow/clients.go",
		old: `return most == 0 || t.flowsOfClient(t.clientHash(f.Orig.Src, f.Out.Index)) < most`, new: `return most >= 0`, tests: "vnicbridge.TestLimitOfFlowsPerClient",
	}, {
		row: "L1", defect: "each address of a /64 is a client", file: "vnicbridge/internal/bpf/flowlimit.h",
		old: `return a ? a->orig.src[0] : orig->src;`, new: `return a ? a->orig.src[1] : orig->src;`, tests: "vnicbridge.TestLimitOfFlowsPerClient",
	}, {
		row: "L1", defect: "each address of a /64 is a client", file: "vnicbridge/internal/flow/clients.go",
		old: `packet.Halves(client)[0]`, new: `packet.Halves(client)[1]`, tests: "vnicbridge.TestLimitOfFlowsPerClient",
	}, {
		row: "L1", defect: "connections that are over stay their client's", file: "vnicbridge/internal/bpf/flow.h",
		old: `		recount_client(f->number, n < 0);
`, new: "", tests: "vnicbridge.TestLimitOfFlowsPerClient",
	}, {
		row: "L1", defect: "connections that are over stay their client's", file: "vnicbridge/internal/flow/table.go",
		old: `		t.uncountClient(f.Number, f.Out.Index, f.Flags.Load())
`, new: "", tests: "vnicbridge.TestLimitOfFlowsPerClient",
	}, {
		row: "L1", defect: "a limit of clients that comes by a reload counts only new flows", file: "vnicbridge/internal/flow/limits.go",
		old: `		t.countClients(number)
`, new: "", tests: "vnicbridge.TestLimitOfFlowsPerClient",
	}, {
		row: "L1", defect: "a change of the table forgets what limits refused", file: "vnicbridge/internal/userspace/forwarder.go",
		old: "	to.InheritLimits(fw.Flows)\n", new: "", tests: "vnicbridge.TestLimitsMove",
	}, {
		row: "L1+", defect: "the rate is not used up", file: "vnicbridge/internal/bpf/pace.h",
		old: `	__sync_fetch_and_add(&l->used[way], cost_of(l, size));
`, new: "", tests: "vnicbridge.TestLimitOfRate",
	}, {
		row: "L1+", defect: "the rate is not used up", file: "vnicbridge/internal/flow/pace.go",
		old: `		used.Add(costOf(l, size))
`, new: "", tests: "vnicbridge.TestLimitOfRate",
	}, {
		row: "L1+", defect: "large packets leave no room for small ones", file: "vnicbridge/internal/flow/pace.go",
		old: `wait+costOf(l, size) > l.Queue`, new: `wait > l.Queue`, tests: "vnicbridge.TestLimitOfRate",
	}, {
		row: "L1+", defect: "both ways share one rate", file: "vnicbridge/internal/bpf/pace.h",
		old: `#define INTO_SEGMENT 1`, new: `#define INTO_SEGMENT 0`, tests: "vnicbridge.TestLimitOfRate",
	}, {
		row: "L1+", defect: "packets wait without bound", file: "vnicbridge/internal/flow/pace.go",
		old: `wait+costOf(l, size) > l.Queue.Load() {`, new: `wait < 0 {`, tests: "vnicbridge.TestLimitOfRate",
	}, {
		row: "L1+", defect: "a super-packet counts with one header", file: "vnicbridge/internal/bpf/bridge.c",
		old: `p->size + (p->size - headers - 1) / each * headers : p->size`, new: `p->size : p->size`, tests: "vnicbridge.TestRateOfSuperPackets",
	}, {
		row: "L1+", defect: "a super-packet counts with one header", file: "vnicbridge/internal/userspace/pacer.go",
		old: `return size + (size-headers-1)/each*headers`, new: `return size`, tests: "vnicbridge.TestRateOfSuperPackets",
	}, {
		row: "L1+", defect: "a change of the table gives a burst anew", file: "vnicbridge/internal/flow/limits.go",
		old: `			t.Limits[i].Used[way].Store(from.Limits[i].Used[way].Load())
`, new: "			_ = way\n", tests: "vnicbridge.TestRateMoves",
	}, {
		row: "L2", defect: "a flood that takes all aliases keeps clients out", file: `vnicbridge/internal/flow/holder.go`,
		old: `	f.Reply = h.reply
	return true`, new: `	return false`,
	}, {
		row: "L2", defect: "malformed IPv6 has no bound", file: "vnicbridge/internal/bpf/bridge.c",
		old: `!is_common6(skb, at) &&`, new: `!is_common6(skb, at) && !is_plain(&p) &&`, tests: "vnicbridge.TestOddIPv6IsBounded",
	}, {
		row: "L2", defect: "fresh flows are not spared", file: `vnicbridge/internal/flow/survey.go`,
		old: `uint32(SpareTime>>ClockShift)); c.left`, new: `0); c.left`,
	}, {
		row: "L2", defect: "a client that completes its handshake late is refused", file: `vnicbridge/internal/userspace/pickup.go`,
		old: `!ok || !h.GoesOn(a.In, a.Now)`, new: `ok || !h.GoesOn(a.In, a.Now)`,
	}, {
		row: "L2", defect: "of a connection whose handshake was slow, the client's FIN does not count", file: `vnicbridge/internal/flow/handshakes.go`,
		old: `	f.Flags.Store(h.flags)`, new: "	f.Flags.Store(h.flags &^ (Acked << Reverse))", tests: "vnicbridge.TestResumedConnectionsEnd",
	}, {
		row: "L2", defect: "any host's MAC makes the plane configure the VNICs", file: "vnicbridge/maintain.go",
		old: `	if c.Gateway {` + "\n", new: "	if true {\n",
	}, {
		row: "L2", defect: "each forged host on the IPv6 link causes a solicitation", file: `vnicbridge/internal/link/ipv6.go`,
		old: `const SolicitationRate = 100`, new: `const SolicitationRate = 1 << 20`,
	}, {
		row: "L2", defect: "forged hosts on the IPv6 link have the bound of IPv4", file: `vnicbridge/internal/link/ipv6.go`,
		old: `	l.Neighbours.Table.Bounds = IPv6NeighbourBounds` + "\n",
	}, {
		row: "L3", defect: "a lost device stays lost", file: "vnicbridge/devices.go",
		old: "			p.log.Error(\"a device is lost: trying to get it back\"",
		new: `			return
			p.log.Error("a device is lost: trying to get it back"`,
		tests: "integration.TestFaults",
	}, {
		row: "L3", defect: "a lost device's flows are not found until it is back", file: "vnicbridge/datapaths.go",
		old: `	if ifc.Closed.Load() {
		for`, new: `	if true {
		for`,
	}, {
		row: "L3", defect: "changes of a VNIC by others are not repaired", file: "vnicbridge/maintain.go",
		old: "	p.configureVNICs()\n	p.reportObstacles()", new: "	p.reportObstacles()",
		tests: "integration.TestVNICIsPutBack",
	}, {
		row: "L4", defect: "a reload makes every VNIC again", file: "vnicbridge/apply.go",
		old: `if old := living.segments[name]; old != nil && old.spec == spec {`, new: `if old := living.segments[name]; old != nil && old.spec == spec && false {`,
		tests: "integration.TestReloadKeepsConnections",
	}, {
		row: "L4", defect: "a reload that fails leaves its devices", file: "vnicbridge/apply.go",
		old: `	for _, ifc := range t.made {
		t.p.closeIface(ifc)
	}
`, new: "",
		tests: "vnicbridge.TestAFailingReloadChangesNothing",
	}, {
		row: "L4", defect: "Caddy stops servers on which requests are coming", file: "caddymodule/servers.go",
		old: `	process.Sockets.HandOver()
`, new: "",
		tests: "integration.TestReloadsLoseNoRequest",
	}, {
		row: "L4", defect: "the last requests of a configuration do not reach their segment", file: "caddymodule/fronts.go",
		old: `	case <-f.started:
		return nil
	default:
	}
	select {`, new: `	case <-config.Done():
		return context.Cause(config)
	default:
	}
	select {`,
		tests: "integration.TestReloadsLoseNoRequest",
	}, {
		row: "L4", defect: "a configuration that has not started takes the connections", file: "sites/listener.go",
		old: `	if accepting := l.accepting.Load(); !accepting || l.at.Started == nil {
		return accepting`, new: `	if true {
		return true`,
		tests: "integration.TestFailingReloadsLoseNoRequest",
	}, {
		row: "L5", defect: "a stop leaves the devices", file: "vnicbridge/plane.go",
		old: `	for _, ifc := range p.ifaces() {
		p.closeIface(ifc)
	}
	idle`, new: "	idle",
	}, {
		row: "L5", defect: "a killed instance's filter keeps running", file: "vnicbridge/internal/bpf/bridge.c",
		old: `if (needs_heartbeat && bpf_ktime_get_ns() - plane.heartbeat > HEARTBEAT_NS)`, new: `if (0)`,
		tests: "integration.TestKilledUnderLoad",
	}, {
		row: "L5", defect: "the rules of a killed instance stay", file: `vnicbridge/internal/host/sourcerule_linux.go`,
		old: `if err == nil && len(routes) == 0 {`, new: `if err == nil && len(routes) < 0 {`,
		tests: "integration.TestPreserveLeavesNoRule",
	}, {
		row: "L5", defect: "what comes out of a veth pair reaches the host", file: `vnicbridge/internal/host/veth_linux.go`,
		old: `v.outer.ensureSysctls, v.outer.ensureDeadEnd, `, new: `v.outer.ensureSysctls, `,
		tests: "integration.TestKilledNetnsSegmentIsApart",
	}, {
		row: "L5", defect: "leftovers of a killed instance count as a living one's", file: `vnicbridge/internal/host/ownership_linux.go`,
		old: `return errors.Is(err, unix.ECONNREFUSED)`, new: `return errors.Is(err, unix.ENOTSOCK)`,
		tests: "integration.TestContainerIsRestarted",
	}, {
		row: "L5", defect: "what a living instance has counts as a killed one's", file: `vnicbridge/internal/host/ownership_linux.go`,
		old: `return errors.Is(err, unix.ECONNREFUSED)`, new: `return !errors.Is(err, unix.ENOTSOCK)`,
		tests: "integration.TestContainersAreToldApart",
	}, {
		row: "L6", defect: "short IP headers are read", file: `vnicbridge/internal/packet/packet.go`,
		old: `	if len(ip) < IPv4MinLen {
		return p, DropMalformed
	}
	total`, new: "	total",
	}, {
		row: "L6", defect: "short ICMP messages are read", file: `vnicbridge/internal/packet/packet.go`,
		old: `	if len(p.L4) < ICMPHeaderLen {
		return DropMalformed
	}
`, new: "",
	}, {
		row: "L6", defect: "data offsets beyond the segment are believed", file: `vnicbridge/internal/packet/packet.go`,
		old: ` || int(l4[12]>>4)*4 > len(l4) {`, new: ` {`,
	}, {
		row: "L7", defect: "a next hop's MAC changes at any rate", file: `vnicbridge/internal/link/neighbour.go`,
		old: ` && now-e.changed < int64(LockTime):`, new: ` && false:`,
	}, {
		row: "L7", defect: "a change of MAC that came too soon is never checked", file: `vnicbridge/internal/link/neighbour.go`,
		old: `e.contested = true // once`, new: `// once`,
	}, {
		row: "L7", defect: "frames wait for hosts without a bound", file: `vnicbridge/internal/link/neighbour.go`,
		old: ` || n.Waiting+len(f.Data) > MaxWaitingBytes {`, new: ` {`,
	}, {
		row: "L7", defect: "ARP has no budget", file: "vnicbridge/internal/bpf/hear.h",
		old: `else if (!b || !spend_message(b))`, new: `else if (!b)`,
	}, {
		row: "L7", defect: "all ARP has one budget", file: "vnicbridge/internal/bpf/hear.h",
		old: `index = iface * MESSAGE_KINDS + kind;`, new: `index = iface * MESSAGE_KINDS;`,
	}, {
		row: "L7", defect: "ARP has no budget", file: "vnicbridge/internal/bpf/letin.c",
		old: `if (!spend_message(&budgets[kind]))`, new: `if (false)`,
	}, {
		row: "L7", defect: "all ARP has one budget", file: "vnicbridge/internal/bpf/letin.c",
		old: `&budgets[kind]`, new: `&budgets[0]`,
	}, {
		row: "L7", defect: "all NDP has the limit of the gateway's", file: "vnicbridge/internal/bpf/arrival6.h",
		old: `if (sender == MESSAGE_GATEWAY)`, new: `if (true)`, tests: "vnicbridge.TestNDPHasBudgets",
	}, {
		row: "L7", defect: "a line is logged as often as a packet causes it", file: `vnicbridge/internal/loglimit/loglimit.go`,
		old: `if w.written < Burst {`, new: `if true {`, tests: "vnicbridge.TestNeighboursCannotFillTheLog",
	}, {
		row: "L7", defect: "a repair that follows from the gateway's MAC is logged as a change from outside", file: `vnicbridge/internal/host/vnicsetup_linux.go`,
		old: `if differed && !ours[step.name] {`, new: `if differed || differed && ours[step.name] {`, tests: "integration.TestNeighbourFloods",
	},
}
