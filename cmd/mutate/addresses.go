package main

// addresses are the defects of rows A1 to A7.
var addresses = []mutation{
	{
		row: "A1", defect: "ARP for any address is answered", file: "vnicbridge/claim.go",
		old: `if !c.claimed || !m.request || m.target != c.address {`,
		new: `if !c.claimed || !m.request {`,
	}, {
		row: "A1", defect: "an ARP probe is not answered", file: "vnicbridge/claim.go",
		old: `if !c.claimed || !m.request || m.target != c.address {`,
		new: `if !c.claimed || !m.request || m.target != c.address || m.sender == noAddr {`,
	}, {
		row: "A1", defect: "the host answers ARP for VNIC addresses", file: "vnicbridge/guard_linux.go",
		old:   `		g.drop(chain, matchPrefix(targetOffset, v.address.Masked()))` + "\n",
		tests: "integration.TestHostKernelKeepsOut integration.TestNoWayRound",
	}, {
		row: "A1", defect: "the programs keep ARP from userspace", file: "vnicbridge/bpf/bridge.c",
		old: "DROP_OVERLOAD);\n	else\n		bpf_clone_redirect(skb, own->slow, 0);", new: "DROP_OVERLOAD);",
		tests: "integration.TestHostKernelKeepsOut",
	}, {
		row: "A2", defect: "the address is not probed", file: "vnicbridge/claim.go",
		old: `for range probes {`, new: `for range 0 {`,
	}, {
		row: "A2", defect: "an address that is held is probed again", file: "vnicbridge/apply.go",
		old: `		if !slices.Contains(t.made, b.port) {`, new: `		if false {`,
	}, {
		row: "A2", defect: "a conflict at the start goes unheard", file: "vnicbridge/claim.go",
		old: `		case c.conflicts <- other:` + "\n",
	}, {
		row: "A2", defect: "no announcement at the start", file: "vnicbridge/claim.go",
		old: "	c.announces = announceCount\n	return nil", new: "	return nil",
	}, {
		row: "A2", defect: "the address is not defended", file: "vnicbridge/claim.go",
		old: "	c.defended = now\n	c.send([]frame{c.announcement()})", new: "	c.defended = now",
	}, {
		row: "A2", defect: "no announcement when the NIC is up again", file: "vnicbridge/maintain.go",
		old: `announce = announce || state.up`, new: `_ = 0`,
	}, {
		row: "A2", defect: "no announcement of another MAC", file: "vnicbridge/maintain.go",
		old: "		b.port.setMAC(state.mac)\n		announce = true\n", new: "		b.port.setMAC(state.mac)\n",
	}, {
		row: "A3", defect: "a VNIC's frames keep the MAC that they came to", file: "vnicbridge/forwarder.go",
		old: "		copy(a.frame.eth(), mac[:])\n", new: "",
	}, {
		row: "A3", defect: "a VNIC's frames keep the MAC that they came to", file: "vnicbridge/bpf/packet.h",
		old: `set_macs(eth, dst_mac, eth->h_source);`, new: `set_macs(eth, eth->h_dest, eth->h_source);`,
	}, {
		row: "A3", defect: "a VNIC's frames get a source MAC of ours", file: "vnicbridge/bpf/packet.h",
		old: `set_macs(eth, dst_mac, eth->h_source);`, new: `set_macs(eth, dst_mac, out->mac);`,
	}, {
		row: "A3", defect: "the aliases do not follow the gateway's MAC", file: "vnicbridge/maintain.go",
		old: "	if c.gateway {\n		p.remind()\n	}\n", new: "",
	}, {
		row: "A3", defect: "the kernel forgets the aliases' neighbours", file: "vnicbridge/neighboursocket_linux.go",
		old:   `s.message(netlink.NUD_PERMANENT)`,
		new:   `s.message(netlink.NUD_REACHABLE)`,
		tests: "integration.TestSegmentOfTwoBridges",
	}, {
		row: "A4", defect: "frames leave the NIC with a VNIC's MAC", file: "vnicbridge/forwarder.go",
		old: `	copy(a.frame.eth()[6:], mac[:])` + "\n",
	}, {
		row: "A4", defect: "frames leave the NIC with a VNIC's MAC", file: "vnicbridge/bpf/packet.h",
		old: `set_macs(eth, dst_mac, out->mac);`, new: `set_macs(eth, dst_mac, eth->h_source);`,
	}, {
		row: "A5", defect: "the gateway has no alias of its own", file: "vnicbridge/hosts.go",
		old: `host == bridge.gateway && gateway >= 0 {`, new: `gateway < -1 {`,
	}, {
		row: "A5", defect: "the gateway has no alias of its own", file: "vnicbridge/bpf/admit.h",
		old: `if (p->key.src == b->gateway && b->gateway)`, new: `if (0)`,
	}, {
		row: "A5", defect: "the secret of the hashes is not looked at", file: "vnicbridge/hashsecret.go",
		old: `	p.key = newHashKey(secret[:])` + "\n", new: "	_ = secret\n",
	}, {
		row: "A5", defect: "the secret of the hashes changes at a start", file: "vnicbridge/hashsecret.go",
		old: `	p.key = newHashKey(secret[:])`, new: `	p.key = hashKey{newHashKey(secret[:]).k0, uint64(p.started.UnixNano())}`,
	}, {
		row: "A5", defect: "all clients prefer one alias", file: "vnicbridge/alias.go",
		old: `return reserved + int(pool.key.hash(client[:])%uint64(shared))`, new: `return reserved`,
	}, {
		row: "A5", defect: "all clients prefer one alias", file: "vnicbridge/bpf/admit.h",
		old: `return s->gateways + hash_address(p->key.src) % shared;`, new: `return s->gateways + 0 % shared;`,
	}, {
		row: "A5", defect: "the client's port is changed though an alias is free", file: "vnicbridge/alias.go",
		old: `t := tuple{src: server, sport: flow.dport, dport: flow.sport, proto: flow.proto}`,
		new: `t := tuple{src: server, sport: flow.dport, dport: randomPort(flow.sport), proto: flow.proto}`,
	}, {
		row: "A5", defect: "when the aliases are used up, no port is changed", file: "vnicbridge/alias.go",
		old: `for i := range portAttempts {`, new: `for i := range 0 {`,
	}, {
		row: "A5", defect: "a reply tuple is given twice", file: "vnicbridge/flowtable.go",
		old: `mayGo := t.superseded(number) && (`, new: `mayGo := number != notFound || (`,
	}, {
		row: "A5", defect: "a reply tuple is given twice", file: "vnicbridge/bpf/admit.h",
		old: `!same_key(&r->orig, &p->key) || !same_key(&r->reply, &f->answer))`, new: `!same_key(&r->reply, &f->answer))`,
	}, {
		row: "A5", defect: "the programs use a tuple again at once", file: "vnicbridge/bpf/admit.h",
		old: `return until && (__s32)((__u32)*until - plane.clock) > 0;`, new: `return !until;`,
		tests: "vnicbridge.TestQuarantineOfEvictedFlows",
	}, {
		row: "A5", defect: "a tuple is used again at once", file: "vnicbridge/quarantine.go",
		old: `return proto == TCP && s.flags.Load()&flowAccepted != 0 && s.idle(now) < timeWait`, new: `return false`,
	}, {
		row: "A6", defect: "the route by the VNIC's own address is missing", file: "vnicbridge/vnicsetup_linux.go",
		old: `added(v.ns.netlink.RouteAddEcmp(&netlink.Route{LinkIndex: v.ifindex, Dst: subnet, Gw: own}))`, new: `false, error(nil)`,
		tests: "integration.TestRoutesAndReversePathFilter",
	}, {
		row: "A6", defect: "a preserving segment has no default route", file: "vnicbridge/sourcerule_linux.go",
		old: `added(v.ns.netlink.RouteAddEcmp(v.defaultRoute(want.via))) // before any other`, new: `false, error(nil)`,
		tests: "integration.TestPreserve",
	}, {
		row: "A6", defect: "a segment with `egress any` has no rule", file: "vnicbridge/vnicsettings.go",
		old: `beyond := c.Segments[segment].ClientIP == Preserve || c.Segments[segment].egress() == EgressAny`,
		new: `beyond := c.Segments[segment].ClientIP == Preserve`, tests: "integration.TestEgressAnyReachesBeyondTheGateway",
	}, {
		row: "A6+", defect: "a segment's rule stays behind others", file: "vnicbridge/sourcerule_linux.go",
		old: `			priority = min(priority, r.Priority-1)`, new: `			_ = r`,
		tests: "integration.TestPolicyRules",
	}, {
		row: "A6+", defect: "nobody watches the rules", file: "vnicbridge/watch_linux.go",
		old: `unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_RULE, `, new: `unix.NETLINK_ROUTE, `,
		tests: "integration.TestPolicyRules",
	}, {
		row: "A6+", defect: "packets of a segment leave by any interface", file: "vnicbridge/guard_linux.go",
		old: `	if err := g.guardSources(spec.vnics); err != nil {`, new: `	if err := g.guardSources(nil); err != nil {`,
		tests: "integration.TestNothingLeavesByAnotherInterface",
	}, {
		row: "A7", defect: "hosts off the link are asked for themselves", file: "vnicbridge/neighbour.go",
		old: `if n.link.Contains(dst) {`, new: `if true {`,
	}, {
		row: "A7", defect: "hosts on the link are reached by the gateway", file: "vnicbridge/bpf/bridge.c",
		old: `return n->mac;`, new: `return nic->gateway_mac;`,
	}, {
		row: "A7", defect: "the gateway's MAC is not refreshed", file: "vnicbridge/neighbour.go",
		old: `e.mac.IsZero(), now-e.confirmed >= int64(reachableTime):`, new: `e.mac.IsZero():`,
	}, {
		row: "A7", defect: "what the kernel data path uses is not refreshed", file: "vnicbridge/neighbour.go",
		old: `case now-e.confirmed >= int64(reachableTime) && e.part() == partUsed && now-e.lastUse.Load() <= int64(2*surveyInterval):`, new: `case false:`,
	}, {
		row: "A7", defect: "next hops that do not answer are asked for ever", file: "vnicbridge/neighbour.go",
		old: `case e.mac.IsZero() && now-e.made >= int64(maxAsks*askInterval), `, new: `case `,
	}, {
		row: "A7", defect: "a gateway off the subnet is not heard", file: "vnicbridge/neighbour.go",
		old: `if !mac.IsUnicast() || !n.link.Contains(ip) && ip != n.gateway {`, new: `if !mac.IsUnicast() || !n.link.Contains(ip) {`,
	}, {
		row: "A7+", defect: "hosts that only asked are as many as there are", file: "vnicbridge/neighbourtable.go",
		old: `if t.sizes[p] < t.bounds[p] {`, new: `if t.sizes[p] < t.bounds[p] || p == partHeard {`,
	}, {
		row: "A7+", defect: "a new host is refused for those that only asked", file: "vnicbridge/neighbour.go",
		old: "		changed = n.makeRoom(partHeard)\n", new: "		if n.table.sizes[partHeard] >= neighbourBounds[partHeard] {\n			return change, nil, nil\n		}\n",
	}, {
		row: "A7+", defect: "hosts that frames go to are few", file: "vnicbridge/neighbourtable.go",
		old: `partUsed: 1 << 16}`, new: `partUsed: 1 << 12}`,
	}, {
		row: "A7+", defect: "the hosts that were used last make room", file: "vnicbridge/neighbourtable.go",
		old: `return cmp.Compare(a.idle, b.idle)`, new: `return cmp.Compare(b.idle, a.idle)`,
	}, {
		row: "A7+", defect: "where the programs send is not seen", file: "vnicbridge/kernelpath_linux.go",
		old: `if keys[i].Port == nic.index && v.Used != 0 {`, new: `if false {`,
	}, {
		row: "A7+", defect: "forged hosts cause a broadcast each", file: "vnicbridge/neighbour.go",
		old: `broadcastBurst = 1024`, new: `broadcastBurst = 1 << 20`,
	}, {
		row: "A7+", defect: "forged hosts keep segments' own questions back", file: "vnicbridge/neighbour.go",
		old: `budget = n.broadcasts[1]`, new: `budget = n.broadcasts[0]`,
	}, {
		row: "A1+", defect: "a tag of any VLAN is taken out", file: "vnicbridge/packet.go",
		old: `binary.BigEndian.Uint16(eth[14:])&vlanID != 0 || `, new: ``,
	}, {
		row: "A1+", defect: "a tag behind a priority tag is not looked for", file: "vnicbridge/packet.go",
		old: ` || isVLAN(binary.BigEndian.Uint16(eth[16:])) {`, new: ` {`, tests: "vnicbridge.TestPriorityTags",
	}, {
		row: "A1+", defect: "a priority tag beside the bytes is another network's", file: "vnicbridge/packetsocket_linux.go",
		old: `tci&vlanID != 0 || `, new: `tci|1 != 0 || `, tests: "integration.TestPriorityTaggedLink",
	}, {
		row: "A1+", defect: "a priority tag beside the bytes is another network's", file: "vnicbridge/bpf/bridge.c",
		old: `return skb->vlan_present && skb->vlan_tci & VLAN_ID;`, new: `return skb->vlan_present;`, tests: "integration.TestPriorityTaggedLink",
	}, {
		row: "A1+", defect: "a priority tag stays on what a segment sends", file: "vnicbridge/bpf/bridge.c",
		old: "	if (unlikely(skb->vlan_present && bpf_skb_vlan_pop(skb)))\n		return give_up(own);\n", new: "", tests: "integration.TestPriorityTaggedLink",
	}, {
		row: "A1+", defect: "priority tags in the bytes are not let in", file: "vnicbridge/bpf/bridge.c",
		old: `if (tag->proto != ETH_IPV4 || (void *)(ip + 1) > (void *)(long)skb->data_end || ip->daddr != own->address)`, new: `if (true)`,
	}, {
		row: "A2+", defect: "a switch's device tracking is a rival", file: "vnicbridge/claim.go",
		old: `return f.dstMAC() == broadcastMAC && f.srcMAC() == m.senderMAC`, new: `return f.srcMAC() == m.senderMAC`,
	}, {
		row: "A2+", defect: "a probe that a repeater sends on is a rival's", file: "vnicbridge/claim.go",
		old: `return f.dstMAC() == broadcastMAC && f.srcMAC() == m.senderMAC`, new: `return f.dstMAC() == broadcastMAC`,
	}, {
		row: "A2+", defect: "our own frames are a rival's", file: "vnicbridge/claim.go",
		old: `if m.senderMAC == c.mac() || c.ours(m.senderMAC) {`, new: `if false {`,
	}, {
		row: "A2+", defect: "dad off probes still", file: "vnicbridge/apply.go",
		old: `claim.acquire(t.cfg.Bridges[name].DAD != DADOff)`, new: `claim.acquire(true)`,
	}, {
		row: "A2++", defect: "peers that are to be notified are not", file: "vnicbridge/maintain.go",
		old: `announce := state.notifyPeers`, new: `announce := false`, tests: "vnicbridge.TestTheAddressIsAnnouncedWhenTheNICChanges",
	}, {
		row: "A2++", defect: "a carrier that was away for a moment goes unnoticed", file: "vnicbridge/watchlinks_linux.go",
		old: `case l.notifyPeers || wasDown:`, new: `case l.notifyPeers && wasDown:`, tests: "integration.TestAnnouncements",
	},
}
