package main

// separation are the defects of rows S1 to S5.
var separation = []mutation{
	{
		row: "S1", defect: "a VLAN tag beside the frame is not seen", file: "vnicbridge/packet.go",
		old: "	if f.tagged || !isVLAN(f.etherType()) {\n		return !f.tagged\n", new: "	if !isVLAN(f.etherType()) {\n		return true\n",
	}, {
		row: "S1", defect: "frames for other MACs enter", file: "vnicbridge/forwarder.go",
		old: `} else if dst != a.in.mac() {`, new: `} else if false {`,
	}, {
		row: "S1", defect: "frames for other MACs enter", file: "vnicbridge/bpf/bridge.c",
		old: `if (unlikely(!same_mac(eth->h_dest, own->mac)))`, new: `if (0 && !same_mac(eth->h_dest, own->mac))`,
	}, {
		row: "S1", defect: "broadcasts count as other hosts' frames", file: "vnicbridge/bpf/bridge.c",
		old: `eth->h_dest[0] & 1 ? DROP_GROUP : DROP_NOT_FOR_US`, new: `DROP_NOT_FOR_US`,
	}, {
		row: "S1", defect: "packets for other addresses enter", file: "vnicbridge/forwarder.go",
		old: `if a.dst != a.in.nic.address {`, new: `if false {`,
	}, {
		row: "S1", defect: "packets for other addresses enter", file: "vnicbridge/bpf/bridge.c",
		old: `if (eth->h_proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end || ip->daddr != own->address)`, new: `if (eth->h_proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end)`,
	}, {
		row: "S1", defect: "any source enters", file: "vnicbridge/admit.go",
		old: `	if !rules.possibleSource(a.src) {`, new: `	if false {`,
	}, {
		row: "S1", defect: "any source enters", file: "vnicbridge/bpf/admit.h",
		old: "	if (impossible(p->key.src))\n		return DROP_SOURCE;\n", new: "",
	}, {
		row: "S1", defect: "the host's addresses are no impossible sources", file: "vnicbridge/compile.go",
		old: `		sources = append(sources, ownAndBroadcast(own)...)`, new: `		_ = own`,
	}, {
		row: "S2", defect: "any source leaves a segment", file: "vnicbridge/forwarder.go",
		old: `if a.src != a.in.vnic.address {`, new: `if false {`,
	}, {
		row: "S2", defect: "any source leaves a segment", file: "vnicbridge/bpf/bridge.c",
		old: ` || p.key.src != own->address)`, new: `)`,
	}, {
		row: "S2", defect: "a segment's broadcasts are no broadcasts", file: "vnicbridge/forwarder.go",
		old: `	case a.frame.dstMAC().isGroup():`, new: `	case false:`,
	}, {
		row: "S2", defect: "a segment answers as it likes, without a flow", file: "vnicbridge/admit.go",
		old: "	if !a.begins() {\n		fw.orphaned(a)\n		return nil, dropNoFlow\n	}\n	return fw.begin(a, to, outboundReplies", new: "	return fw.begin(a, to, outboundReplies",
	}, {
		row: "S2", defect: "a segment answers as it likes, without a flow", file: "vnicbridge/bpf/admit.h",
		old: "	if (!begins(p))\n		return DROP_NO_FLOW;\n", new: "",
	}, {
		row: "S2", defect: "a segment's own chatter goes to the gateway", file: "vnicbridge/ruleset.go",
		old: `return first, dst` + "\n	}\n	return nil, noAddr", new: "return first, dst\n	}\n	return first, r.bridges[first].gateway",
	}, {
		row: "S3", defect: "a segment reaches what its `reach` does not name", file: "vnicbridge/admit.go",
		old: `	to, host := rules.egress(segment, a.dst)`,
		new: `	for other := range rules.segments {
		if other.vnic.address == a.dst && other != a.in {
			return fw.admitToPeer(a, rules, reachRule{other, a.src})
		}
	}
	to, host := rules.egress(segment, a.dst)`,
	}, {
		row: "S3", defect: "a segment reaches its peer under any address", file: "vnicbridge/bpf/admit.h",
		old: `		if (s->peer[i].here == p->key.dst)`, new: `		if (1)`,
	}, {
		row: "S3", defect: "the ports of a peer are all open", file: "vnicbridge/admit.go",
		old: `if !fw.enters(rules.segments[peer.to], peer.to, &a.packet) {`, new: `if false {`,
	}, {
		row: "S3", defect: "the ports of a peer are all open", file: "vnicbridge/bpf/admit.h",
		old: `if (!s || !s->live || !begins(p) || !enters(s, p))`, new: `if (!s || !s->live || !begins(p))`,
	}, {
		row: "S3", defect: "a bridge reaches segments that it does not name", file: "vnicbridge/decision.go",
		old: `	for _, name := range b.LBPolicy.Segments {`, new: `	for _, name := range sortedKeys(available) {`,
	}, {
		row: "S3", defect: "a record is cleared so that its addresses go before its ports", file: "vnicbridge/flowrecord.go",
		old: "	words(&r.Orig)[1].Store(0)\n", new: "	store(&r.Orig, bpf.FlowKey{})\n",
	}, {
		row: "S3", defect: "a record that changes while it is read is believed", file: "vnicbridge/flowtable.go",
		old: ` || load(&r.Orig) != orig || load(&r.Reply) != reply {`, new: ` {`,
	}, {
		row: "S3", defect: "the host routes between the networks of two bridges", file: "vnicbridge/guard_linux.go",
		old: `			if from != to {`, new: `			if false {`,
		tests: "integration.TestSeparation",
	}, {
		row: "S4", defect: "packets for VNIC addresses enter by another interface", file: "vnicbridge/guard_linux.go",
		old:   "		g.drop(chain, matchPrefix(destinationOffset, v.address.Masked()), matchDevice(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))\n		if v.away {",
		new:   "		if v.away {",
		tests: "integration.TestNoWayRound integration.TestSeparation",
	}, {
		row: "S4", defect: "a source route leads to VNIC addresses", file: "vnicbridge/guard_linux.go",
		old: `[]uint8{looseSourceRoute, strictSourceRoute}`, new: `[]uint8{}`,
		tests: "integration.TestSeparation",
	}, {
		row: "S4", defect: "the pseudo address is reached by another interface", file: "vnicbridge/guard_linux.go",
		old: "		g.drop(chain, matchPrefix(destinationOffset, netip.PrefixFrom(p, p.BitLen())))", new: "		_ = p",
		tests: "integration.TestNoWayRound integration.TestHostKernelKeepsOut",
	}, {
		row: "S4", defect: "the host hears what comes out of a segment's namespace", file: "vnicbridge/guard_linux.go",
		old: "matchDevice(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))\n		if v.away {", new: "matchDevice(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))\n		if false {",
		tests: "integration.TestSeparation",
	}, {
		row: "S4+", defect: "the programs stand behind those of others", file: "vnicbridge/programplace_linux.go",
		old: `		at := t.anchor()`, new: `		at := link.Tail()`, tests: "integration.TestAcceptingPrograms",
	}, {
		row: "S4+", defect: "the filters stand behind those of others", file: "vnicbridge/filter_linux.go",
		old: `	case same && first.Protocol == unix.ETH_P_ALL:`, new: `	case false && same:`, tests: "integration.TestAcceptingPrograms",
	}, {
		row: "S4+", defect: "nobody looks at what comes before the programs later", file: "vnicbridge/keptfirst_linux.go",
		old: `	if h.slowPath == nil {`, new: `	if true {`, tests: "integration.TestAcceptingPrograms",
	}, {
		row: "S5", defect: "drops are not counted", file: "vnicbridge/forwarder.go",
		old: "		a.in.drops[verdict].Add(1)\n	}\n}\n\nfunc (fw *forwarder) handle", new: "	}\n}\n\nfunc (fw *forwarder) handle",
	}, {
		row: "S5", defect: "drops are not counted", file: "vnicbridge/bpf/bridge.c",
		old: `		c->drops[reason]++;`, new: `		c->drops[reason] = 0;`,
	}, {
		row: "S5", defect: "there is no bound on odd packets", tests: "integration.TestOddPackets", file: "vnicbridge/bpf/limit.h",
		old: `#define ODD_PACKETS 671`, new: `#define ODD_PACKETS 400000`,
	}, {
		row: "S5", defect: "a burst of odd packets is cut", tests: "integration.TestOddPackets", file: "vnicbridge/bpf/limit.h",
		old: `#define ODD_INTERVALS 4`, new: `#define ODD_INTERVALS 1`,
	},
}
