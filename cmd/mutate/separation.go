package main

// separation are the defects of rows S1 to S5.
var separation = []mutation{
	{
		row: "S1", defect: "a VLAN tag in metadata is not noticed", file: `vnicbridge/internal/packet/packet.go`,
		old: `	if f.Tagged || !IsVLAN(f.EtherType()) {
		return !f.Tagged
`, new: `	if !IsVLAN(f.EtherType()) {
		return true
`,
	}, {
		row: "S1", defect: "frames for other MACs enter", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `} else if dst != a.In.MAC() {`, new: `} else if false {`,
	}, {
		row: "S1", defect: "frames for other MACs enter", file: "vnicbridge/internal/bpf/bridge.c",
		old: `if (unlikely(!same_mac(eth->h_dest, own->mac)))`, new: `if (0 && !same_mac(eth->h_dest, own->mac))`,
	}, {
		row: "S1", defect: "broadcasts count as other hosts' frames", file: "vnicbridge/internal/bpf/bridge.c",
		old: `eth->h_dest[0] & 1 ? DROP_GROUP : DROP_NOT_FOR_US`, new: `DROP_NOT_FOR_US`,
	}, {
		row: "S1", defect: "packets for other addresses enter", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `if a.Dst != a.In.NIC.Address {`, new: `if false {`,
	}, {
		row: "S1", defect: "packets for other addresses enter", file: "vnicbridge/internal/bpf/bridge.c",
		old: `if (eth->h_proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end || ip->daddr != own->address || !own->address)`, new: `if (eth->h_proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end)`,
	}, {
		row: "S1", defect: "any source enters", file: `vnicbridge/internal/userspace/admit.go`,
		old: `	if !rules.PossibleSource(a.Src) {`, new: `	if false {`,
	}, {
		row: "S1", defect: "forwarded NDP is believed to come from the link", file: "vnicbridge/internal/bpf/arrival6.h",
		old: `p->ip.hop_limit == NDP_HOP_LIMIT && `, new: ``, tests: "vnicbridge.TestWhatOfIPv6IsOurs",
	}, {
		row: "S1", defect: "NDP between others reaches userspace", file: "vnicbridge/internal/bpf/arrival6.h",
		old: `!about_us && !link_local)`, new: `false)`, tests: "vnicbridge.TestWhatOfIPv6IsOurs",
	}, {
		row: "S1", defect: "IPv6 to other addresses is taken from the host", file: "vnicbridge/internal/bpf/bridge.c",
		old: "	if (!to_us)\n", new: "	if (false)\n", tests: "vnicbridge.TestWhatOfIPv6IsOurs",
	}, {
		row: "S1", defect: "a bridge without an IPv4 address takes ARP", file: "vnicbridge/internal/bpf/hear.h",
		old: `if (!own->address)`, new: `if (false)`, tests: "vnicbridge.TestTheOtherFamilyIsTheHosts",
	}, {
		row: "S1", defect: "any source enters", file: "vnicbridge/internal/bpf/admit.h",
		old: "	if (impossible(p->key.src))\n		return DROP_SOURCE;\n", new: "",
	}, {
		row: "S1", defect: "packets from the host's own addresses enter", file: `vnicbridge/internal/rules/compile.go`,
		old: `	for _, own := range host {
		sources = append(sources, ownAndBroadcast(own)...)`, new: `	for _, own := range host {
		_ = own`,
	}, {
		row: "S2", defect: "any source leaves a segment", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `if a.Src != a.In.VNIC.Address || link`, new: `if link`,
	}, {
		row: "S2", defect: "any source leaves a segment", file: "vnicbridge/internal/bpf/bridge.c",
		old: ` || p.key.src != own->address)`, new: `)`,
	}, {
		row: "S2", defect: "a segment's broadcasts leave", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `	} else if a.Frame.DstMAC().IsGroup() {`, new: `	} else if false {`,
	}, {
		row: "S2", defect: "a segment answers as it likes, without a flow", file: `vnicbridge/internal/userspace/admit.go`,
		old: `	if !a.Begins() {
		fw.orphaned(a)
		return nil, packet.DropNoFlow
	}
	if to.StandsBy`, new: `	if to.StandsBy`,
	}, {
		row: "S2", defect: "a segment answers as it likes, without a flow", file: "vnicbridge/internal/bpf/admit.h",
		old: "	if (!begins(p))\n		return DROP_NO_FLOW;\n", new: "",
	}, {
		row: "S2", defect: "a segment's multicast goes to the gateway", file: `vnicbridge/internal/rules/ruleset.go`,
		old: `return first, dst
	}
	return nil, packet.NoAddr`, new: `return first, dst
	}
	return first, r.Bridges[first].Gateway`,
	}, {
		row: "S3", defect: "a segment reaches what its `reach` does not name", file: `vnicbridge/internal/userspace/admit.go`,
		old: `	to, host := rs.Egress(segment, a.Dst)`,
		new: `	for other := range rs.Segments {
		if other.VNIC.Address == a.Dst && other != a.In {
			return fw.admitToPeer(a, rs, rules.ReachRule{other, a.Src})
		}
	}
	to, host := rs.Egress(segment, a.Dst)`,
	}, {
		row: "S3", defect: "a segment reaches its peer under any address", file: "vnicbridge/internal/bpf/admit.h",
		old: `		if (s->peer[i].here == address)`, new: `		if (s->peer[i].here && address)`,
	}, {
		row: "S3", defect: "the ports of a peer are all open", file: `vnicbridge/internal/userspace/admit.go`,
		old: `if !fw.enters(rules.Segments[peer.To], peer.To, &a.Packet) {`, new: `if false {`,
	}, {
		row: "S3", defect: "the ports of a peer are all open", file: "vnicbridge/internal/bpf/admit.h",
		old: `!begins(p) || !enters(s, p) ||`, new: `!begins(p) ||`,
	}, {
		row: "S3", defect: "a bridge reaches segments that it does not name", file: `vnicbridge/internal/rules/balancer.go`,
		old: `	for _, name := range p.Segments {`, new: `	for _, name := range config.SortedKeys(available) {`,
	}, {
		row: "S3", defect: "a record is cleared so that its addresses go before its ports", file: `vnicbridge/internal/flow/record.go`,
		old: "	words(&r.Orig)[1].Store(0)\n", new: "	store(&r.Orig, bpf.FlowKey{})\n",
	}, {
		row: "S3", defect: "a record that changes while it is read is believed", file: `vnicbridge/internal/flow/table.go`,
		old: ` && load(&r.Orig) == to.orig && load(&r.Reply) == to.reply`, new: ``,
	}, {
		row: "S3", defect: "the host routes between the networks of two bridges", file: `vnicbridge/internal/host/guard_linux.go`,
		old: `			if from != to {`, new: `			if false {`,
		tests: "integration.TestSeparation",
	}, {
		row: "S4", defect: "packets for VNIC addresses enter by another interface", file: `vnicbridge/internal/host/guard_linux.go`,
		old:   `			g.drop(chain, matchPrefix(destinationOffset[f], own.Masked()), matchDevice(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))` + "\n",
		tests: "integration.TestNoWayRound integration.TestSeparation",
	}, {
		row: "S4", defect: "a packet with a source route reaches VNIC addresses", file: `vnicbridge/internal/host/guard_linux.go`,
		old: `{matchExtension(exthdrIPv4, looseSourceRoute), matchExtension(exthdrIPv4, strictSourceRoute)}`, new: `{}`,
		tests: "integration.TestSeparation",
	}, {
		row: "S4", defect: "the pseudo address is reached by another interface", file: `vnicbridge/internal/host/guard_linux.go`,
		old: "		g.drop(chain, matchPrefix(destinationOffset[f], netip.PrefixFrom(p, p.BitLen())))", new: "		_ = p",
		tests: "integration.TestNoWayRound integration.TestHostKernelKeepsOut",
	}, {
		row: "S4", defect: "a segment's XDP program is passed by", file: "vnicbridge/internal/host/veth_linux.go",
		old: `v.hasXDP.Store(xdp != nil && xdp.Attached)`, new: `v.hasXDP.Store(xdp == nil)`, tests: "integration.TestSegmentXDP",
	}, {
		row: "S4+", defect: "the programs come after those of others", file: `vnicbridge/internal/kernel/programplace_linux.go`,
		old: `		at := t.anchor()`, new: `		at := link.Tail()`, tests: "integration.TestAcceptingPrograms",
	}, {
		row: "S4+", defect: "the filters come after those of others", file: `vnicbridge/internal/kernel/filter_linux.go`,
		old: `	case same && first.Protocol == unix.ETH_P_ALL:`, new: `	case false && same:`, tests: "integration.TestAcceptingPrograms",
	}, {
		row: "S4+", defect: "programs that come before ours later are not noticed", file: `vnicbridge/internal/kernel/keptfirst_linux.go`,
		old: `	if h.slowPath == nil {`, new: `	if true {`, tests: "integration.TestAcceptingPrograms",
	}, {
		row: "S5", defect: "drops are not counted", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `		a.In.Drops[verdict].Add(1)
	}
}

func (fw *Forwarder) handle`, new: `	}
}

func (fw *Forwarder) handle`,
	}, {
		row: "S5", defect: "drops are not counted", file: "vnicbridge/internal/bpf/count.h",
		old: `		c->drops[reason]++;`, new: `		c->drops[reason] = 0;`,
	}, {
		row: "S5", defect: "packets that only userspace can handle have no rate limit", tests: "integration.TestOddPackets", file: "vnicbridge/internal/bpf/limit.h",
		old: `#define ODD_COST 25000`, new: `#define ODD_COST 40`,
	}, {
		row: "S5", defect: "a burst of packets that only userspace can handle is cut", tests: "integration.TestOddPackets", file: "vnicbridge/internal/bpf/limit.h",
		old: `#define ODD_BURST (64 * 1000 * 1000)`, new: `#define ODD_BURST (16 * 1000 * 1000)`,
	}, {
		row: "S6", defect: "an advertisement without the Override flag changes a next hop", file: `vnicbridge/internal/link/neighbour.go`,
		old: `	case mac != known && !known.IsZero() && !m.Override:`, new: `	case false:`,
	}, {
		row: "S6", defect: "a solicitation changes a next hop", file: `vnicbridge/internal/link/neighbour.go`,
		old: `	contested := e != nil && !e.MAC.IsZero() && e.MAC != mac`, new: `	contested := e != nil && false`,
	}, {
		row: "S7", defect: "userspace carries what the banned send", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `	if fw.denied.Has(a.In, a.Src) {`, new: `	if false {`,
	}, {
		row: "S7", defect: "a segment reaches the banned by way of userspace", file: `vnicbridge/internal/userspace/admit.go`,
		old: `	if fw.denied.Has(to, host) || fw.denied.Has(a.In, host) {`, new: `	if fw.denied.Has(a.In, host) {`,
	}, {
		row: "S7", defect: "programs open flows of the banned", file: "vnicbridge/internal/bpf/decide.h",
		old: `return in_set(DENIED_AT | iface, address);`, new: `return false;`,
	}, {
		row: "S7", defect: "programs open IPv6 flows of the banned", file: "vnicbridge/internal/bpf/decide.h",
		old: `return in_set6(DENIED_AT | iface, address[0], address[1]);`, new: `return false;`,
	}, {
		row: "S7", defect: "programs let a segment reach the banned", file: "vnicbridge/internal/bpf/admit.h",
		old: `	if (denied(to, host) || denied(self, host))`, new: `	if (denied(self, host))`,
	}, {
		row: "S7", defect: "the flows of the banned go on", file: `vnicbridge/bans.go`,
		old: `	b.datapaths.forwarder.EndDenied()
	b.fresh, b.again = false, true`, new: `	b.fresh, b.again = false, false`,
	}, {
		row: "S7", defect: "the banned are told", file: `vnicbridge/internal/userspace/reset.go`,
		old: `		return bothSides[1:]`, new: `		return bothSides`,
	}, {
		row: "S7", defect: "bans get lost when the data path changes", file: `vnicbridge/datapaths.go`,
		old: `	for network := range d.denied.At(ifc) {`, new: `	for network := range new(rules.Denied).At(ifc) {`,
	}, {
		row: "S7", defect: "bans do not end", file: `vnicbridge/bans.go`,
		old: `		case !now.Before(until):`, new: `		case false:`,
	}, {
		row: "S7", defect: "a failed reload leaves its bans", file: `vnicbridge/apply.go`,
		old: `	if err := p.bans.follow(configuredBans(p.cfg), p.devices); err != nil {`, new: `	if err := error(nil); err != nil {`,
	}, {
		row: "S7", defect: "a failed reload lifts the bans in force", file: `vnicbridge/apply.go`,
		old: `	if err := p.bans.follow(configuredBans(p.cfg), p.devices); err != nil {`, new: `	if err := p.bans.follow(nil, p.devices); err != nil {`,
	}, {
		row: "S7", defect: "userspace opens flows of who is banned from the segment", file: `vnicbridge/internal/userspace/admit.go`,
		old: `	if fw.denied.Has(to, a.Src) {`, new: `	if false {`,
	}, {
		row: "S7", defect: "programs open flows of who is banned from the segment", file: "vnicbridge/internal/bpf/admit.h",
		old: `	if (denied(to, p->key.src))`, new: `	if (false)`,
	}, {
		row: "S7", defect: "programs open IPv6 flows of who is banned from the segment", file: "vnicbridge/internal/bpf/admit6.h",
		old: `	if (denied6(to, a->orig.src))`, new: `	if (false)`,
	}, {
		row: "S7", defect: "the flows of who is banned from a segment go on", file: `vnicbridge/internal/userspace/reset.go`,
		old: ` || fw.denied.Has(vnic, tuple.Dst))`, new: ` || vnic == nil)`,
	}, {
		row: "S7", defect: "a name leads who is banned from the segment there", file: `vnicbridge/internal/userspace/greetserver.go`,
		old: `	if fw.denied.Has(to, syn.Src) {`, new: `	if false {`,
	},
}
