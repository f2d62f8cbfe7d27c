package main

// addresses are the defects of rows A1 to A10.
var addresses = []mutation{
	{
		row: "A1", defect: "ARP for any address is answered", file: `vnicbridge/internal/link/claim.go`,
		old: `if !c.claimed || !m.Request || m.Target != c.address {`,
		new: `if !c.claimed || !m.Request {`,
	}, {
		row: "A1", defect: "an ARP probe is not answered", file: `vnicbridge/internal/link/claim.go`,
		old: `if !c.claimed || !m.Request || m.Target != c.address {`,
		new: `if !c.claimed || !m.Request || m.Target != c.address || m.Sender == packet.NoAddr {`,
	}, {
		row: "A1", defect: "the host answers ARP for VNIC addresses", file: `vnicbridge/internal/host/guard_linux.go`,
		old:   `			g.drop(chain, matchPrefix(targetOffset, own.Masked()))` + "\n",
		tests: "integration.TestHostKernelKeepsOut integration.TestNoWayRound",
	}, {
		row: "A1", defect: "the programs do not pass ARP to userspace", file: "vnicbridge/internal/bpf/hear.h",
		old: `	if (is_heard(self, skb->len, kind))
		bpf_clone_redirect(skb, own->slow, 0);
`, new: "	is_heard(self, skb->len, kind);\n",
		tests: "integration.TestHostKernelKeepsOut",
	}, {
		row: "A1", defect: "a Neighbor Solicitation for any address is answered", file: `vnicbridge/internal/link/ndpclaim.go`,
		old: `	c := l.claimTo(m.Target)
	if c == nil || m.Nonce`, new: `	c := &l.pseudo
	if c == nil || m.Nonce`,
	}, {
		row: "A1", defect: "another host's Duplicate Address Detection is not answered", file: `vnicbridge/internal/link/ndpclaim.go`,
		old: `		l.send(l.announcement(c)) // the other host`, new: `		_ = 0 // the other host`,
	}, {
		row: "A2", defect: "the address is not probed", file: `vnicbridge/internal/link/claim.go`,
		old: `for range probes {`, new: `for range probes - probes {`,
	}, {
		row: "A2", defect: "a reload probes an address that the bridge has already", file: "vnicbridge/apply.go",
		old: `		if t.p.awaits(b.iface) || !made && (t.unclaimed(name) || !b.iface.Unclaimed()) {`, new: `		if false {`,
	}, {
		row: "A2", defect: "a conflict at the start is not noticed", file: `vnicbridge/internal/link/claim.go`,
		old: `		case c.conflicts <- other:` + "\n",
	}, {
		row: "A2", defect: "no announcement at the start", file: `vnicbridge/internal/link/claim.go`,
		old: `	c.announces = AnnounceCount
	return nil`, new: "	return nil",
	}, {
		row: "A2", defect: "the address is not defended", file: `vnicbridge/internal/link/claim.go`,
		old: `		return
	}
	c.send([]packet.Frame{c.announcement()})`, new: `		return
	}`,
	}, {
		row: "A2", defect: "no announcement when the NIC is up again", file: "vnicbridge/maintain.go",
		old: `announce = announce || state.Up`, new: `_ = 0`,
	}, {
		row: "A2", defect: "no announcement of another MAC", file: "vnicbridge/maintain.go",
		old: `		b.iface.SetMAC(state.MAC)
		announce = true
`, new: `		b.iface.SetMAC(state.MAC)` + "\n",
	}, {
		row: "A2", defect: "the addresses of IPv6 are not probed", file: `vnicbridge/internal/link/ndpclaim.go`,
		old: `		if err := l.probe(); err != nil {`, new: `		if err := error(nil); err != nil {`,
	}, {
		row: "A2", defect: "a conflict at the start is not noticed in IPv6", file: `vnicbridge/internal/link/ndpclaim.go`,
		old: `		c.rival = other` + "\n",
	}, {
		row: "A2", defect: "the addresses of IPv6 are not announced", file: `vnicbridge/internal/link/ndpclaim.go`,
		old: `	l.announces, l.announced = AdvertiseCount, 0` + "\n",
	}, {
		row: "A3", defect: "frames on a VNIC keep the destination MAC that they came with", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `		copy(a.Frame.Eth(), mac[:])` + "\n", new: "",
	}, {
		row: "A3", defect: "frames on a VNIC keep the destination MAC that they came with", file: "vnicbridge/internal/bpf/packet.h",
		old: `set_macs(eth, dst_mac, eth->h_source);`, new: `set_macs(eth, eth->h_dest, eth->h_source);`,
	}, {
		row: "A3", defect: "frames on a VNIC get a source MAC of the bridge's", file: "vnicbridge/internal/bpf/packet.h",
		old: `set_macs(eth, dst_mac, eth->h_source);`, new: `set_macs(eth, dst_mac, out->mac);`,
	}, {
		row: "A3", defect: "the aliases do not follow the gateway's MAC", file: "vnicbridge/maintain.go",
		old: `	if c.Gateway {
		p.remind()
	}
`, new: "",
	}, {
		row: "A3", defect: "the kernel forgets the aliases' neighbours", file: `vnicbridge/internal/host/neighboursocket_linux.go`,
		old:   `s.message(hosts[i], netlink.NUD_PERMANENT)`,
		new:   `s.message(hosts[i], netlink.NUD_REACHABLE)`,
		tests: "integration.TestSegmentOfTwoBridges",
	}, {
		row: "A4", defect: "frames leave the NIC with a VNIC's MAC", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `	copy(a.Frame.Eth()[6:], mac[:])` + "\n",
	}, {
		row: "A4", defect: "frames leave the NIC with a VNIC's MAC", file: "vnicbridge/internal/bpf/packet.h",
		old: `set_macs(eth, dst_mac, out->mac);`, new: `set_macs(eth, dst_mac, eth->h_source);`,
	}, {
		row: "A5", defect: "the gateway has no alias of its own", file: `vnicbridge/internal/rules/hosts.go`,
		old: `host == bridge.Gateway && gateway >= 0 {`, new: `gateway < -1 {`,
	}, {
		row: "A5", defect: "the gateway has no alias of its own", file: "vnicbridge/internal/bpf/admit.h",
		old: `if (p->key.src == b->gateway && b->gateway)`, new: `if (0)`,
	}, {
		row: "A5", defect: "the hash does not depend on the secret", file: "vnicbridge/hashsecret.go",
		old: `	p.key = rules.NewKey(secret[:])` + "\n", new: "	_, _ = secret, rules.NewKey\n",
	}, {
		row: "A5", defect: "the secret of the hashes changes at a start", file: "vnicbridge/hashsecret.go",
		old: `	p.key = rules.NewKey(secret[:])`, new: `	p.key = rules.Key{K0: rules.NewKey(secret[:]).K0, K1: uint64(p.started.UnixNano())}`,
	}, {
		row: "A5", defect: "all clients prefer one alias", file: `vnicbridge/internal/rules/alias.go`,
		old: `return reserved + int(pool.key.hash(client[:])%uint64(shared))`, new: `return reserved`,
	}, {
		row: "A5", defect: "all clients prefer one alias", file: "vnicbridge/internal/bpf/admit.h",
		old: `return s->gateways + hash_address(p->key.src) % shared;`, new: `return s->gateways + 0 % shared;`,
	}, {
		row: "A5", defect: "the client's port is changed though an alias is free", file: `vnicbridge/internal/rules/alias.go`,
		old: `t := packet.Tuple{Src: server, Sport: flow.Dport, Dport: flow.Sport, Proto: flow.Proto}`,
		new: `t := packet.Tuple{Src: server, Sport: flow.Dport, Dport: randomPort(flow.Sport), Proto: flow.Proto}`,
	}, {
		row: "A5", defect: "when the aliases are used up, no port is changed", file: `vnicbridge/internal/rules/alias.go`,
		old: `for i := range portAttempts {`, new: `for i := range 0 {`,
	}, {
		row: "A5", defect: "two flows get the same reply tuple", file: `vnicbridge/internal/flow/table.go`,
		old: `free = t.superseded(taken) && (`, new: `mayGo := number != notFound || (`,
	}, {
		row: "A5", defect: "two flows get the same reply tuple", file: "vnicbridge/internal/bpf/open.h",
		old: `!same_key(&r->orig, &p->key) || !same_key(&r->reply, &f->answer) ||`, new: `!same_key(&r->reply, &f->answer) ||`,
	}, {
		row: "A5", defect: "the programs use a tuple again at once", file: "vnicbridge/internal/bpf/open.h",
		old: `return until && (__s32)((__u32)*until - plane.clock) > 0;`, new: `return !until;`,
		tests: "vnicbridge.TestQuarantineOfEvictedFlows",
	}, {
		row: "A5", defect: "a tuple is used again at once", file: `vnicbridge/internal/flow/quarantine.go`,
		old: `return proto == config.TCP && s.Flags.Load()&Accepted != 0 && s.Idle(now) < TimeWait`, new: `return false`,
	}, {
		row: "A6", defect: "the route by the VNIC's own address is missing", file: `vnicbridge/internal/host/vnicsetup_linux.go`,
		old: `added(v.NS.Netlink.RouteAddEcmp(&netlink.Route{LinkIndex: v.Ifindex, Dst: subnet, Gw: own}))`, new: `false, error(nil)`,
		tests: "integration.TestRoutesAndReversePathFilter",
	}, {
		row: "A6", defect: "a preserving segment has no default route", file: `vnicbridge/internal/host/sourcerule_linux.go`,
		old: `added(v.NS.Netlink.RouteAddEcmp(v.DefaultRoute(want.Via[f]))) // before any other`, new: `false, error(nil)`,
		tests: "integration.TestPreserve",
	}, {
		row: "A6", defect: "a segment with `egress any` has no rule", file: "vnicbridge/vnicsettings.go",
		old: `beyond := s.ClientIP == config.Preserve || s.EgressOrDefault() == config.EgressAny`,
		new: `beyond := s.ClientIP == config.Preserve`, tests: "integration.TestEgressAnyReachesBeyondTheGateway",
	}, {
		row: "A6+", defect: "a segment's rule stays behind others", file: `vnicbridge/internal/host/sourcerule_linux.go`,
		old: `			priority = min(priority, r.Priority-1)`, new: `			_ = r`,
		tests: "integration.TestPolicyRules",
	}, {
		row: "A6+", defect: "nobody watches the rules", file: `vnicbridge/internal/host/watch_linux.go`,
		old: `unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_RULE, `, new: `unix.NETLINK_ROUTE, `,
		tests: "integration.TestPolicyRules",
	}, {
		row: "A6+", defect: "packets of a segment leave by any interface", file: `vnicbridge/internal/host/guard_linux.go`,
		old: `g.guardSources(f, spec.VNICs)`, new: `g.guardSources(f, nil)`,
		tests: "integration.TestNothingLeavesByAnotherInterface",
	}, {
		row: "A7", defect: "hosts off the link are resolved instead of the gateway", file: `vnicbridge/internal/link/neighbour.go`,
		old: `if n.onLink(dst) {`, new: `if true {`,
	}, {
		row: "A7", defect: "packets for hosts on the link go to the gateway", file: "vnicbridge/internal/bpf/packet.h",
		old: `return n->mac;`, new: `return nic->gateway_mac;`,
	}, {
		row: "A7", defect: "the gateway's MAC is not refreshed", file: `vnicbridge/internal/link/neighbour.go`,
		old: `e.MAC.IsZero(), now-e.confirmed >= int64(ReachableTime):`, new: `e.MAC.IsZero():`,
	}, {
		row: "A7", defect: "next hops that only the programs use are not refreshed", file: `vnicbridge/internal/link/neighbour.go`,
		old: `case now-e.confirmed >= int64(ReachableTime) && e.Part() == PartUsed && now-e.lastUse.Load() <= int64(2*SurveyInterval):`, new: `case false:`,
	}, {
		row: "A7", defect: "next hops that do not answer are asked for ever", file: `vnicbridge/internal/link/neighbour.go`,
		old: `case e.MAC.IsZero() && now-e.made >= int64(maxAsks*askInterval), `, new: `case `,
	}, {
		row: "A7", defect: "a gateway off the subnet is not learned", file: `vnicbridge/internal/link/neighbour.go`,
		old: `if !mac.IsUnicast() || !n.onLink(ip) && ip != n.Gateway {`, new: `if !mac.IsUnicast() || !n.onLink(ip) {`,
	}, {
		row: "A7", defect: "Neighbor Solicitations do not go to the group of the address", file: `vnicbridge/internal/link/ipv6.go`,
		old: `		m.To = SolicitedNode(target)` + "\n",
	}, {
		row: "A7", defect: "no segment is told of a host that does not answer", file: "vnicbridge/devices.go",
		old: `func(f packet.Frame) { p.path.TellUnreachable(own, &f) }`, new: `func(packet.Frame) {}`,
	}, {
		row: "A7+", defect: "hosts that only asked have no bound", file: `vnicbridge/internal/link/neighbourtable.go`,
		old: `if t.Sizes[p] < t.Bounds[p] {`, new: `if t.Sizes[p] < t.Bounds[p] || p == PartHeard {`,
	}, {
		row: "A7+", defect: "hosts that only asked keep a new host out", file: `vnicbridge/internal/link/neighbour.go`,
		old: `		changed = n.makeRoom(PartHeard)` + "\n", new: `		if n.Table.Sizes[PartHeard] >= NeighbourBounds[PartHeard] {
			return change, nil, nil
		}
`,
	}, {
		row: "A7+", defect: "the bound for hosts that frames go to is too small", file: `vnicbridge/internal/link/neighbourtable.go`,
		old: `PartUsed: 1 << 16}`, new: `PartUsed: 1 << 12}`,
	}, {
		row: "A7+", defect: "the most recently used hosts are evicted", file: `vnicbridge/internal/link/neighbourtable.go`,
		old: `return cmp.Compare(a.idle, b.idle)`, new: `return cmp.Compare(b.idle, a.idle)`,
	}, {
		row: "A7+", defect: "next hops that only the programs use count as idle", file: `vnicbridge/internal/kernel/neighbours_linux.go`,
		old: `		if n.Used != 0 {`, new: `			if false {`,
	}, {
		row: "A7+", defect: "each forged host causes a broadcast", file: `vnicbridge/internal/link/neighbour.go`,
		old: `BroadcastBurst = 1024`, new: `BroadcastBurst = 1 << 20`,
	}, {
		row: "A7+", defect: "forged hosts use up the limit for segments' own questions", file: `vnicbridge/internal/link/neighbour.go`,
		old: `budget = n.broadcasts[1]`, new: `budget = n.broadcasts[0]`,
	}, {
		row: "A1+", defect: "the tag of any VLAN is removed", file: `vnicbridge/internal/packet/packet.go`,
		old: `binary.BigEndian.Uint16(eth[14:])&VLANID != 0 || `, new: ``,
	}, {
		row: "A1+", defect: "a second tag after a priority tag is not noticed", file: `vnicbridge/internal/packet/packet.go`,
		old: ` || IsVLAN(binary.BigEndian.Uint16(eth[16:])) {`, new: ` {`, tests: "vnicbridge.TestPriorityTags",
	}, {
		row: "A1+", defect: "a priority tag in metadata counts as another VLAN's", file: `vnicbridge/internal/host/packetsocket_linux.go`,
		old: `tci&packet.VLANID != 0 || `, new: `tci|1 != 0 || `, tests: "integration.TestPriorityTaggedLink",
	}, {
		row: "A1+", defect: "a priority tag in metadata counts as another VLAN's", file: "vnicbridge/internal/bpf/hear.h",
		old: `return skb->vlan_present && skb->vlan_tci & VLAN_ID;`, new: `return skb->vlan_present;`, tests: "integration.TestPriorityTaggedLink",
	}, {
		row: "A1+", defect: "a priority tag stays on what a segment sends", file: "vnicbridge/internal/bpf/bridge.c",
		old: "	if (unlikely(skb->vlan_present && bpf_skb_vlan_pop(skb)))\n		return give_up(own);\n", new: "", tests: "integration.TestPriorityTaggedLink",
	}, {
		row: "A1+", defect: "frames with a priority tag in their bytes are dropped", file: "vnicbridge/internal/bpf/bridge.c",
		old: `if (tag->proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end || ip->daddr != own->address ||`, new: `if (ip ||`,
	}, {
		row: "A2+", defect: "a switch's device tracking counts as a rival", file: `vnicbridge/internal/link/claim.go`,
		old: `return f.DstMAC() == config.BroadcastMAC && f.SrcMAC() == m.SenderMAC`, new: `return f.SrcMAC() == m.SenderMAC`,
	}, {
		row: "A2+", defect: "a probe that a repeater forwards counts as a rival's", file: `vnicbridge/internal/link/claim.go`,
		old: `return f.DstMAC() == config.BroadcastMAC && f.SrcMAC() == m.SenderMAC`, new: `return f.DstMAC() == config.BroadcastMAC`,
	}, {
		row: "A2+", defect: "the bridge's own frames count as a rival's", file: `vnicbridge/internal/link/claim.go`,
		old: `if m.SenderMAC == c.mac() || c.ours(m.SenderMAC) {`, new: `if false {`,
	}, {
		row: "A2+", defect: "the address is probed in spite of `dad off`", file: "vnicbridge/apply.go",
		old: `link.Acquire(t.cfg.Bridges[name].DAD != config.DADOff)`, new: `link.Acquire(true)`,
	}, {
		row: "A2++", defect: "NOTIFY_PEERS causes no announcement", file: "vnicbridge/maintain.go",
		old: `announce := state.NotifyPeers`, new: `announce := false`, tests: "vnicbridge.TestTheAddressIsAnnouncedWhenTheNICChanges",
	}, {
		row: "A8", defect: "the link-local address is not answered for", file: `vnicbridge/internal/link/ndpclaim.go`,
		old: `	case address == l.linkLocal.address:
		return &l.linkLocal
`,
	}, {
		row: "A9", defect: "the NIC joins no group", file: `vnicbridge/internal/host/nic_linux.go`,
		old: `return n.membership(unix.PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_MULTICAST, group)`, new: `return nil`, tests: "integration.TestMulticastFilter",
	}, {
		row: "A9", defect: "the NIC becomes promiscuous", file: `vnicbridge/internal/host/nic_linux.go`,
		old: `PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_MULTICAST`, new: `PACKET_ADD_MEMBERSHIP, unix.PACKET_MR_PROMISC`, tests: "integration.TestMulticastFilter",
	}, {
		row: "A9", defect: "NDP does not reach userspace", file: "vnicbridge/internal/bpf/bridge.c",
		old: `if (is_message(&p) && (to_us || may_hear(dst_of(&p))))`, new: `if (is_message(&p) && to_us)`,
	}, {
		row: "A9", defect: "no solicited-node group gets through", file: "vnicbridge/internal/bpf/arrival6.h",
		old: `x[2] == bpf_htonl(1) && `, new: `x[2] == bpf_htonl(2) && `,
	}, {
		row: "A9", defect: "the classic filter leaves out queries", file: `vnicbridge/internal/host/pseudoaddressfilter_linux.go`,
		old: `value: mldQuery}`, new: `value: mldQuery + 1}`,
	}, {
		row: "A9", defect: "the NIC takes the frames to one group only", file: `vnicbridge/internal/link/ipv6.go`,
		old: `	groups = append(groups, allNodes)`, new: `	groups = groups[:1]`,
	}, {
		row: "A9", defect: "a NIC that is opened again joins no group", file: `vnicbridge/internal/link/ipv6.go`,
		old: `device != l.device {`, new: `l.device == nil {`,
	}, {
		row: "A9", defect: "nobody is told that the NIC leaves its groups", file: `vnicbridge/internal/link/ipv6.go`,
		old: `	l.report(l.listener.set(nil), l.ticked)` + "\n",
	}, {
		row: "A10", defect: "a router's MAC is learned from any message", file: `vnicbridge/internal/link/ipv6.go`,
		old: `	return packet.DropARP
}

func (l *IPv6) handleNDP`, new: `	l.Hear(m.src, f.SrcMAC(), true, now)
	return packet.DropARP
}

func (l *IPv6) handleNDP`,
	},
}
