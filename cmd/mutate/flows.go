package main

// flows are the defects of rows F1 to F12.
var flows = []mutation{
	{
		row: "F1", defect: "any TCP segment begins a flow", file: `vnicbridge/internal/packet/packet.go`,
		old: `return p.TCPFlags&(TCPSYN|TCPACK|TCPRST|TCPFIN) == TCPSYN`, new: `return true`,
	}, {
		row: "F1", defect: "least_conn counts one family", file: "vnicbridge/internal/bpf/decide.h",
		old: "load = g->load + (other ? other->load : 0);", new: "load = g->load;", tests: "vnicbridge.TestLeastConnCountsBothFamilies",
	}, {
		row: "F1", defect: "least_conn counts one family", file: "vnicbridge/internal/iface/iface.go",
		old: "		load += other.Gauges().Load.Load()\n", new: "", tests: "vnicbridge.TestLeastConnCountsBothFamilies",
	}, {
		row: "F1", defect: "any TCP segment begins a flow", file: "vnicbridge/internal/bpf/packet.h",
		old: `return (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;`, new: `return true;`,
	}, {
		row: "F1", defect: "the policy chooses for every packet", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `	a.reopened = nil` + "\n",
		new: `	a.reopened = nil
	if fl != nil && dir == flow.Forward && a.In.NIC != nil {
		if to, _ := fw.rules.Load().Bridges[a.In].Decisions.Decide(a.Tuple); to != nil {
			moved := *fl
			moved.Out, fl = to, &moved
		}
	}
`,
	}, {
		row: "F1", defect: "the policy chooses for every packet", file: "vnicbridge/internal/bpf/bridge.c",
		old: `	__u32 to = f->answer.iface;
	struct iface *out = bpf_map_lookup_elem(&ifaces, &to);
	const __u8 *mac;
	int verdict;

	if (unlikely(`,
		new: `	struct bridge_rules *b = RULES(bridges, self);
	__u32 to = b && b->live && f->dir == FORWARD ? decide(b, p) & ~LASTING : f->answer.iface;
	struct iface *out = bpf_map_lookup_elem(&ifaces, &to);
	const __u8 *mac;
	int verdict;

	if (unlikely(`,
	}, {
		row: "F2", defect: "the TTL is counted down", file: `vnicbridge/internal/packet/rewrite.go`,
		old: `	copy(p.IP[12:16], to.Src.V4())`, new: `	diff += putWord(p.IP[8:10], binary.BigEndian.Uint16(p.IP[8:]), binary.BigEndian.Uint16(p.IP[8:])-0x100)
	copy(p.IP[12:16], to.Src.V4())`,
	}, {
		row: "F2", defect: "the TTL is counted down", file: "vnicbridge/internal/bpf/packet.h",
		old: `	ip->saddr = answer->dst;`, new: "	ip->ttl--;\n	ip->saddr = answer->dst;",
	}, {
		row: "F2", defect: "TOS and ECN are cleared", file: `vnicbridge/internal/packet/rewrite.go`,
		old: `	copy(p.IP[12:16], to.Src.V4())`, new: `	p.IP[1] = 0
	copy(p.IP[12:16], to.Src.V4())`,
	}, {
		row: "F2", defect: "TOS and ECN are cleared", file: "vnicbridge/internal/bpf/packet.h",
		old: `	ip->saddr = answer->dst;`, new: "	ip->tos = 0;\n	ip->saddr = answer->dst;",
	}, {
		row: "F2", defect: "addresses of the other direction are written", file: "vnicbridge/internal/bpf/packet.h",
		old: "	ip->saddr = answer->dst;\n	ip->daddr = answer->src;", new: "	ip->saddr = answer->src;\n	ip->daddr = answer->dst;",
	}, {
		row: "F3", defect: "the IP header's checksum is not adjusted", file: `vnicbridge/internal/packet/rewrite.go`,
		old: `	copy(p.IP[16:20], to.Dst.V4())
	applyDiff(p.IP[10:12], diff)`, new: `	copy(p.IP[16:20], to.Dst.V4())`,
	}, {
		row: "F3", defect: "the IP header's checksum is not adjusted", file: "vnicbridge/internal/bpf/packet.h",
		old: `	set_check(ip, ~fold16(fold((__u64)diff + (__u16)~ip->check)));` + "\n",
	}, {
		row: "F3", defect: "a UDP checksum of zero is adjusted", file: `vnicbridge/internal/packet/checksum.go`,
		old: "	if field[0]|field[1] == 0 {\n		return\n	}\n",
	}, {
		row: "F3", defect: "a UDP checksum of zero is adjusted, and another may become zero", file: "vnicbridge/internal/bpf/packet.h",
		old: `p->key.proto == IPPROTO_TCP ? 0 : BPF_F_MARK_MANGLED_0;`, new: `0;`,
	}, {
		row: "F3", defect: "a computed UDP checksum of zero is sent as zero", file: `vnicbridge/internal/packet/checksum.go`,
		old: `		field[0], field[1] = 0xff, 0xff` + "\n",
	}, {
		row: "F3", defect: "an unfinished checksum is adjusted like a finished one", file: `vnicbridge/internal/packet/rewrite.go`,
		old: `	if unfinished {`, new: `	if false {`,
	}, {
		row: "F3", defect: "an unfinished checksum is adjusted like a finished one", file: "vnicbridge/internal/bpf/packet.h",
		old: `BPF_F_PSEUDO_HDR | mangled);`, new: `mangled);`, tests: "integration.TestBulkTraffic",
	}, {
		row: "F4", defect: "a RST changes nothing", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `	case segment&packet.TCPRST != 0:
		return flags | believed`, new: `	case segment&packet.TCPRST != 0:
		return flags`,
	}, {
		row: "F4", defect: "a RST changes nothing", file: "vnicbridge/internal/bpf/flow.h",
		old: "	if (unlikely(p->tcp_flags & TCP_RST)) {\n		add |= believed(p, f);", new: "	if (unlikely(p->tcp_flags & TCP_RST)) {\n		add |= 0;",
	}, {
		row: "F4", defect: "traffic after a RST does not restore the flow", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `	flags &^= Reset | Over` + "\n",
	}, {
		row: "F4", defect: "traffic after a RST does not restore the flow", file: "vnicbridge/internal/bpf/flow.h",
		old: `		drop = flags & (FLOW_RESET | FLOW_OVER);`, new: `		drop = 0;`,
	}, {
		row: "F4", defect: "one FIN closes a flow", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `return flags&Reset != 0 || flags&flowFINs == flowFINs }`, new: `return flags&Reset != 0 || flags&flowFINs != 0 }`,
	}, {
		row: "F4", defect: "established flows end after an hour", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `2*time.Hour + 4*time.Minute,`, new: `time.Hour,`,
	}, {
		row: "F4", defect: "flows without a handshake live as long as established ones", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `ClassHalfOpen:    4 * time.Minute, `, new: `ClassHalfOpen:    124 * time.Minute, `,
	}, {
		row: "F4", defect: "UDP flows end after a minute", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `ClassUDP:         5 * time.Minute, `, new: `ClassUDP:         1 * time.Minute, `,
	}, {
		row: "F4", defect: "ICMP flows end after ten seconds", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `ClassICMP:        60 * time.Second, `, new: `ClassICMP:        10 * time.Second, `,
	}, {
		row: "F4", defect: "a packet does not refresh its flow", file: "vnicbridge/internal/bpf/flow.h",
		old: `		s->last_seen = plane.clock;`, new: `		s->last_seen = s->last_seen;`,
	}, {
		row: "F4", defect: "a SYN on a closing flow opens none", file: `vnicbridge/internal/flow/flow.go`,
		old: `return p.Proto == config.TCP && closedForBoth(f.Flags.Load()) && p.Begins()`, new: `return false`,
	}, {
		row: "F4", defect: "a SYN on an established flow opens another", file: `vnicbridge/internal/flow/flow.go`,
		old: `return p.Proto == config.TCP && closedForBoth(f.Flags.Load()) && p.Begins()`, new: `return p.Proto == config.TCP && p.Begins()`,
	}, {
		row: "F4", defect: "a SYN on a closing flow opens none", file: "vnicbridge/internal/bpf/flow.h",
		old: `return p->key.proto == IPPROTO_TCP && closed_for_both(r->state.flags) && begins(p);`, new: `return false;`,
	}, {
		row: "F4+", defect: "any RST is believed", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `	case acked && p.Seq()-other.Ack.Load() <= window:`, new: `	case acked:`,
	}, {
		row: "F4+", defect: "any RST is believed", file: "vnicbridge/internal/bpf/flow.h",
		old: `	if (acked && p->seq - other->ack <= window)`, new: `	if (acked)`,
	}, {
		row: "F4+", defect: "any FIN is believed", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `known := acked && p.Next()-1-other.Ack.Load() <= window`, new: `known := acked`,
	}, {
		row: "F4+", defect: "any FIN is believed", file: "vnicbridge/internal/bpf/flow.h",
		old: `acked ? at - other->ack <= window :`, new: `acked ? at | 1 :`,
	}, {
		row: "F4+", defect: "a SYN chooses anew after an inexact RST", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `		if dir == Reverse || p.Seq() == other.Ack.Load() {`, new: `		if true {`,
	}, {
		row: "F4+", defect: "a SYN chooses anew after an inexact RST", file: "vnicbridge/internal/bpf/flow.h",
		old: `return f->dir == BACKWARD || p->seq == other->ack ? FLOW_RESET | FLOW_OVER : FLOW_RESET;`, new: `return FLOW_RESET | FLOW_OVER;`,
	}, {
		row: "F4+", defect: "the server's SYN-ACK begins no connection", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `			if flags&Reset != 0 {`, new: `			if false {`,
	}, {
		row: "F4+", defect: "the server's SYN-ACK begins no connection", file: "vnicbridge/internal/bpf/flow.h",
		old: `			if (flags & FLOW_RESET)`, new: `			if (0)`,
	}, {
		row: "F4+", defect: "windows count as if they were not scaled", file: `vnicbridge/internal/packet/tcpsegment.go`,
		old: `return min(uint32(options[2]), MaxWindowScale)`, new: `return 0`,
	}, {
		row: "F4+", defect: "windows count as if they were not scaled", file: "vnicbridge/internal/bpf/bridge.c",
		old: `		p->scale = window_scale(skb, HEADERS, p->options);`, new: `		p->scale = 0;`,
	}, {
		row: "F4+", defect: "a RST that answers a SYN is not believed", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `	case dir == Reverse && (!acked || isClosing(flags)):`, new: `	case false:`,
	}, {
		row: "F4+", defect: "a forged SYN changes the windows of a flow", file: "vnicbridge/internal/bpf/flow.h",
		old: `	if (s->flags & FLOW_ESTABLISHED && !closing(s->flags))`, new: `	if (0)`,
	}, {
		row: "F4+", defect: "a forged SYN changes the windows of a flow", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `	case flags&Established == 0 || isClosing(flags): // else the SYN may be forged`, new: `	case flags >= 0:`,
	}, {
		row: "F5", defect: "no flow is picked up", file: `vnicbridge/internal/userspace/admit.go`,
		old: `if !a.Begins() && !(lasting && a.Continues()) {`, new: `if _ = lasting; !a.Begins() {`,
	}, {
		row: "F5", defect: "flows are picked up under any policy", file: `vnicbridge/internal/userspace/admit.go`,
		old: `if !a.Begins() && !(lasting && a.Continues()) {`, new: `if _ = lasting; !a.Begins() && !a.Continues() {`,
	}, {
		row: "F5", defect: "flows are picked up under any policy", file: "vnicbridge/internal/bpf/admit.h",
		old: `if (!begins(p) && !(lasting && continues(p)))`, new: `if (!begins(p) && !continues(p))`,
	}, {
		row: "F5", defect: "a sender without a flow is left hanging", file: `vnicbridge/internal/userspace/admit.go`,
		old: "	// Without an answer, a client whose flow is gone would hang (F5).\n	fw.answerRefusal(a)\n", new: "",
	}, {
		row: "F5", defect: "a sender without a flow is left hanging", file: "vnicbridge/internal/bpf/admit.h",
		old: `return refuse(p, DROP_NO_FLOW);`, new: `return DROP_NO_FLOW;`,
	}, {
		row: "F5", defect: "a RST is answered with a RST", file: `vnicbridge/internal/userspace/reject.go`,
		old: `return a.TCPFlags&packet.TCPRST == 0`, new: `return true`,
	}, {
		row: "F5", defect: "a flood of refusals is sent", file: `vnicbridge/internal/userspace/reject.go`,
		old: ` || !a.allows(fw.limits(a.In).refusals) {`, new: ` {`,
	}, {
		row: "F5+", defect: "no flow is picked up from the server's side", file: `vnicbridge/internal/userspace/admit.go`,
		old: `	if fl := fw.pickUp(a, rs, segment); fl != nil {`, new: `	if fl := fw.pickUp(a, rs, segment); fl != nil && false {`,
	}, {
		row: "F5+", defect: "a segment picks up a flow that belongs to another segment", file: `vnicbridge/internal/userspace/pickup.go`,
		old: `		if lasting && to == vnic && fw.enters(segment, to, &question) {`, new: `		if _, _ = to, lasting; fw.enters(segment, vnic, &question) {`,
	}, {
		row: "F5+", defect: "a flow to a closed port is picked up", file: `vnicbridge/internal/userspace/pickup.go`,
		old: `		if lasting && to == vnic && fw.enters(segment, to, &question) {`, new: `		if lasting && to == vnic {`,
	}, {
		row: "F5+", defect: "a flow of another segment with the client's tuple is taken for the server's", file: `vnicbridge/internal/userspace/pickup.go`,
		old: `	if f == nil || f.Out != a.In || f.Reply != a.Tuple {`, new: `	if f == nil {`,
	}, {
		row: "F5+", defect: "a flow in which only the server sends is established", file: `vnicbridge/internal/flow/tcpstate.go`,
		old: `	opened := dir == Forward || pickedUp && flags&Acked != 0`, new: `	opened := dir == Forward || pickedUp`,
	}, {
		row: "F5+", defect: "a flow in which only the server sends is established", file: "vnicbridge/internal/bpf/flow.h",
		old: `(flags & FLOW_PICKED_UP && flags & FLOW_ACKED)`, new: `flags & FLOW_PICKED_UP`,
	}, {
		row: "F5+", defect: "a server without a flow is left hanging", file: `vnicbridge/internal/userspace/forwarder.go`,
		old: `	fw.endOrphans(now)` + "\n",
	}, {
		row: "F5+", defect: "a server is reset although its client has spoken", file: `vnicbridge/internal/userspace/orphans.go`,
		old: `		if f, _ := fw.Flows.Lookup(orphan.key); f != nil || orphan.in.Closed.Load() || orphan.in.StandsBy() {`, new: `		if orphan.in.Closed.Load() {`,
	}, {
		row: "F5+", defect: "any number of servers without flows is remembered", file: `vnicbridge/internal/userspace/orphans.go`,
		old: `	if len(o.Known.ByKey) == MaxOrphans {`, new: `	if false {`,
	}, {
		row: "F5+", defect: "a stop resets connections that the next start can pick up", file: `vnicbridge/internal/userspace/reset.go`,
		old: `if comesBack != nil && comesBack(f) {`, new: `if false {`,
	}, {
		row: "F5+", defect: "a stop resets no connection", file: `vnicbridge/internal/userspace/reset.go`,
		old: `if comesBack != nil && comesBack(f) {`, new: `if comesBack != nil {`,
	}, {
		row: "F5+", defect: "a stop does not reset Caddy's own connections", file: `vnicbridge/internal/userspace/pickup.go`,
		old: ` || fw.open.WereOurs(to.VNIC.Segment, f.Orig) {`, new: ` {`,
	}, {
		row: "F6", defect: "the quoted header is not rewritten", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `	a.RewriteQuote(quoted, tuple.Reversed(), quotedSeq(shift, dir))` + "\n",
	}, {
		row: "F6", defect: "the outer header is not rewritten", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `	a.RewriteAddresses(tuple)
	return fw.depart`, new: "	return fw.depart",
	}, {
		row: "F6", defect: "a quote of 8 bytes is dropped", file: `vnicbridge/internal/packet/quote.go`,
		old: `p.Later || len(p.L4) < 8 {`, new: `p.Later || len(p.L4) < tcpMinLen {`,
	}, {
		row: "F6", defect: "an error refreshes its flow", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `	a.RewriteQuote(quoted, tuple.Reversed(), quotedSeq(shift, dir))`, new: `	fl.LastSeen.Store(flow.Coarse(a.Now))
	a.RewriteQuote(quoted, tuple.Reversed(), quotedSeq(shift, dir))`,
	}, {
		row: "F6", defect: "an error ends its flow", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `	a.RewriteQuote(quoted, tuple.Reversed(), quotedSeq(shift, dir))`, new: `	fw.Flows.Remove(fl, a.Now)
	a.RewriteQuote(quoted, tuple.Reversed(), quotedSeq(shift, dir))`,
	}, {
		row: "F6", defect: "an error about no flow is let in", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `	if fl == nil {
		return fw.carryStrangeError(a, quoted)
	}
	to, tuple`, new: `	if fl == nil {
		for vnic := range fw.rules.Load().Segments {
			return a.leaveBy(vnic, a.Dst)
		}
	}
	to, tuple`,
	}, {
		row: "F6", defect: "a router is seen as the flow's other host", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `if a.In.NIC != nil && a.Src != quoted.Dst {`, new: `if false {`,
	}, {
		row: "F6", defect: "the flow's other host is seen as a router", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `if a.In.NIC != nil && a.Src != quoted.Dst {`, new: `if a.In.NIC != nil {`,
	}, {
		row: "F6", defect: "a router has the alias of the flow's other host", file: `vnicbridge/internal/rules/hosts.go`,
		old: `i)]; alias != host {`, new: `i)]; true {`,
	}, {
		row: "F6", defect: "a `preserve` segment sees a router under an alias", file: `vnicbridge/internal/rules/hosts.go`,
		old: `if segment.keepsAddress(router) && r.PossibleSource(router) {`, new: `if false {`,
	}, {
		row: "F6", defect: "a router has an address of a segment", file: `vnicbridge/internal/rules/hosts.go`,
		old: `if segment.keepsAddress(router) && r.PossibleSource(router) {`, new: `if segment.keepsAddress(router) {`,
	}, {
		row: "F6", defect: "an error is taken for an echo", file: "vnicbridge/internal/bpf/packet.h",
		old: "	else\n		return SLOW;\n	return KEEP;", new: "	return KEEP;",
	}, {
		row: "F6+", defect: "ICMP errors from routers with an address of this host or a segment are dropped", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `!rules.PossibleRouter(a.Src, a.In.NIC.Address)`, new: `(!rules.PossibleRouter(a.Src, a.In.NIC.Address) || !fw.rules.Load().PossibleSource(a.Src))`,
	}, {
		row: "F6+", defect: "ICMP errors from impossible sources are carried", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `!rules.PossibleRouter(a.Src, a.In.NIC.Address)`, new: `!rules.PossibleRouter(a.Src, a.In.NIC.Address) && false`,
	}, {
		row: "F6+", defect: "240/4 is not unicast", file: `vnicbridge/internal/rules/ruleset.go`,
		old: `"224.0.0.0/4"`, new: `"224.0.0.0/3"`,
	}, {
		row: "F7", defect: "fragments that come before the first are dropped", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `		t.hold(q, d, a.Frame)` + "\n",
	}, {
		row: "F7", defect: "any number of bytes is held", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `	for q.Held > MaxHeldBytes {`, new: `	for false {`,
	}, {
		row: "F7", defect: "any number of datagrams is remembered", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `if to.Len() >= to.most {`, new: `if false {`,
	}, {
		row: "F7", defect: "unfinished datagrams are never forgotten", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `now-d.came >= int64(fragmentTime(p))`, new: `false`,
	}, {
		row: "F7", defect: "two datagrams leave with one identification", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `if other == nil || other.key == d.key && other.whole() {`, new: `if other == nil || other != nil {`,
	}, {
		row: "F7", defect: "fragments are handled as whole packets", file: "vnicbridge/internal/bpf/packet.h",
		old: `ip->ihl != 5 || ip->frag_off & IP_FRAGMENT ||`, new: `ip->ihl != 5 ||`,
	}, {
		row: "F7+", defect: "a first fragment joins an older datagram with its identification", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `if d != nil && d.begun {` + "\n		t.finish", new: `if d != nil && d.refused {` + "\n		t.finish",
	}, {
		row: "F7+", defect: "an identification stays in use when its datagram is complete", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `	if d.whole() {
		t.finish(q, d, a.Now)
	}
	return d, packet.Keep`, new: `	return d, packet.Keep`,
	}, {
		row: "F7+", defect: "the rest of a refused datagram goes to an older datagram's segment", file: `vnicbridge/internal/userspace/fragment.go`,
		old: `		fw.Fragments.refuse(key, a)` + "\n",
	}, {
		row: "F7+", defect: "a flood keeps newer fragments out", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `t.forget(q, to.oldest())`, new: `t.forget(q, to.Back().Value.(*datagram))`,
	}, {
		row: "F7+", defect: "one segment's fragments make room for another one's", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `	q := t.Ifaces[p]` + "\n", new: `	for p = range t.Ifaces {
		break
	}
	q := t.Ifaces[p]
`,
	}, {
		row: "F7+", defect: "fragments without a first one take the room of others", file: "vnicbridge/internal/bpf/limit.h",
		old: `!spend(strays, 2 * ODD_COST, ODD_BURST)`, new: `!spend(odd, 2 * ODD_COST, ODD_BURST)`,
	}, {
		row: "F7+", defect: "overlapping fragments are carried", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `if overlaps || contradicts ||`, new: `if overlaps && false || contradicts ||`,
	}, {
		row: "F7+", defect: "a datagram may have two last fragments", file: `vnicbridge/internal/userspace/fragmenttable.go`,
		old: `if overlaps || contradicts ||`, new: `if overlaps || contradicts && false ||`,
	}, {
		row: "F7+", defect: "fragments from impossible sources take memory", file: `vnicbridge/internal/userspace/fragment.go`,
		old: `if a.In.NIC != nil && !fw.rules.Load().PossibleSource(a.Src) {`, new: `if false {`,
	}, {
		row: "F8", defect: "a packet that is too big is sent", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `return !cut || a.HeadersLen()+size > mtu`, new: `return cut && !cut`,
	}, {
		row: "F8", defect: "a packet that is too big is sent", file: "vnicbridge/internal/bpf/bridge.c",
		old: `if (unlikely(too_big(skb, p, sizeof(struct iphdr), out->mtu)))`, new: `if (0)`,
	}, {
		row: "F8", defect: "the pieces of a super-packet may have any size", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `return !cut || a.HeadersLen()+size > mtu`, new: `return !cut`,
	}, {
		row: "F8", defect: "the pieces of a super-packet may have any size", file: "vnicbridge/internal/bpf/bridge.c",
		old: `headers_len(p, ip) + skb->gso_size > mtu)`, new: `headers_len(p, ip) > mtu)`,
	}, {
		row: "F8", defect: "TCP options do not count in the size of a super-packet's pieces", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `return !cut || a.HeadersLen()+size > mtu`, new: `return !cut || packet.IPv4MinLen+8+size > mtu`,
	}, {
		row: "F8", defect: "a flood of refusals keeps senders from learning the MTU", file: `vnicbridge/internal/userspace/reject.go`,
		old: `!a.allows(fw.limits(a.In).tooBig)`, new: `!a.allows(fw.limits(a.In).refusals)`,
	}, {
		row: "F8", defect: "the sender of a packet that is too big is not told", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `		a.sendBack(f)` + "\n", new: "		_ = f\n",
	}, {
		row: "F8", defect: "a super-packet is refused", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `return !cut || a.HeadersLen()+size > mtu`, new: `return cut || !cut`,
		tests: "vnicbridge.TestSuperPackets integration.TestBulkTraffic",
	}, {
		row: "F8", defect: "a VNIC's MTU is not its NIC's", file: "vnicbridge/vnicsettings.go",
		old: `		if m := int(bridges[name].iface.MTU.Load()); mtu == 0 || m < mtu {`, new: `		if m := int(bridges[name].iface.MTU.Load()); m < 0 {`,
		tests: "integration.TestMTUFollows",
	}, {
		row: "F8", defect: "a packet beyond 64 KiB counts as malformed", file: `vnicbridge/internal/packet/packet.go`,
		old: `if total == 0 && f.isSuper(gsoTCPv4) {`, new: `if false {`,
		tests: "integration.TestSwitchedOnOffloads",
	}, {
		row: "F8", defect: "a packet beyond 64 KiB is left to userspace", file: "vnicbridge/internal/bpf/packet.h",
		old: `if (unlikely(!size) && skb->gso_size && ip->protocol == IPPROTO_TCP)`, new: `if (0)`,
		tests: "integration.TestSwitchedOnOffloads",
	}, {
		row: "F8", defect: "a packet beyond 64 KiB never fits", file: `vnicbridge/internal/host/packetsocket_linux.go`,
		old: `	if m.truncated && m.length < largestFrameLen {`, new: `	if false {`,
		tests: "integration.TestSwitchedOnOffloads",
	}, {
		row: "F9", defect: "UDP begins no flow", file: `vnicbridge/internal/packet/packet.go`,
		old: `	case config.UDP:
		return true
	default:`, new: `	case config.UDP:
		return false
	default:`,
	}, {
		row: "F9", defect: "UDP begins no flow", file: "vnicbridge/internal/bpf/packet.h",
		old: "		return p->icmp_type == ICMP_ECHO_REQUEST;\n	}\n	return true;", new: "		return p->icmp_type == ICMP_ECHO_REQUEST;\n	}\n	return false;",
	}, {
		row: "F10", defect: "new rules end existing flows", file: "vnicbridge/datapaths.go",
		old: `	d.forwarder.SetRules(r)` + "\n", new: `	d.forwarder.SetRules(r)
	d.forwarder.End(func(*flow.Flow) bool { return true }, nil)
`,
	}, {
		row: "F10", defect: "a drained segment gets new flows", file: "vnicbridge/rules.go",
		old: `return p.states[name] == config.Active && p.health.Condition(s.iface).Problem == ""`, new: `return p.health.Condition(s.iface).Problem == ""`,
	}, {
		row: "F10", defect: "an unhealthy segment gets new flows", file: "vnicbridge/rules.go",
		old: `return p.states[name] == config.Active && p.health.Condition(s.iface).Problem == ""`, new: `return p.states[name] == config.Active && s != nil`,
	}, {
		row: "F10", defect: "a switch changes nothing", file: "vnicbridge/override.go",
		old: `		b.LBPolicy = b.LBPolicy.Preferring(segment)` + "\n",
	}, {
		row: "F10", defect: "a weight set by hand changes nothing", file: "vnicbridge/override.go",
		old: "	if w := o.weights[segment]; w != 0 {\n		return w\n	}\n",
	}, {
		row: "F10", defect: "a RST carries only what was acknowledged", file: `vnicbridge/internal/userspace/reset.go`,
		old: `	if sent != acknowledged {`, new: `	if false {`,
	}, {
		row: "F10", defect: "the flows of a removed segment are not reset", file: "vnicbridge/devices.go",
		old: `return slices.Contains(all, f.In) || slices.Contains(all, f.Out) }, p.comesBack)`, new: `return f == nil }, p.comesBack)`,
	}, {
		row: "F10+", defect: "UDP flows stay at an unhealthy segment", file: "vnicbridge/verdicts.go",
		old: `		p.path.RechooseAt(s.iface)` + "\n",
	}, {
		row: "F10+", defect: "a UDP flow that began while its segment became unhealthy stays there", file: "vnicbridge/maintain.go",
		old: `	p.leaveUnhealthy()` + "\n",
	}, {
		row: "F10+", defect: "UDP flows stay at a closed port", file: `vnicbridge/internal/userspace/icmperror.go`,
		old: `	if a.saysClosed(fl) {`, new: `	if false {`,
	}, {
		row: "F10+", defect: "port unreachable from anybody ends a flow", file: `vnicbridge/internal/userspace/rechoose.go`,
		old: `fl.In.NIC != nil && fl.Out == a.In &&`, new: `fl.In.NIC != nil &&`,
	}, {
		row: "F10+", defect: "any ICMP unreachable ends a flow", file: `vnicbridge/internal/packet/packet.go`,
		old: `p.L4[0] == ICMPUnreachable && p.L4[1] == ICMPPortUnreachable`, new: `p.L4[0] == ICMPUnreachable`,
	}, {
		row: "F10+", defect: "TCP flows end too when UDP flows choose again", file: `vnicbridge/internal/userspace/rechoose.go`,
		old: `return f.Orig.Proto != config.TCP && f.In.NIC != nil && condition(f)`, new: `return f.In.NIC != nil && condition(f)`,
	}, {
		row: "F10+", defect: "flows that a segment has opened end too", file: `vnicbridge/internal/userspace/rechoose.go`,
		old: `return f.Orig.Proto != config.TCP && f.In.NIC != nil && condition(f)`, new: `return f.Orig.Proto != config.TCP && (condition(f) || f.In.VNIC != nil)`,
	}, {
		row: "F10+", defect: "a switch moves flows that a steer rule has placed", file: `vnicbridge/internal/userspace/rechoose.go`,
		old: `return !steered && (`, new: `_ = steered
		return (`,
	}, {
		row: "F11", defect: "refusals are silent", file: `vnicbridge/internal/userspace/admit.go`,
		old: `if bridge.Refuse != config.Drop {`, new: `if false {`,
	}, {
		row: "F11", defect: "refusals are silent", file: "vnicbridge/internal/bpf/admit.h",
		old: `return b->silent ? reason : refuse(p, reason);`, new: `return reason;`,
	}, {
		row: "F11", defect: "refusals are not silent under `on_no_segment drop`", file: `vnicbridge/internal/userspace/admit.go`,
		old: `if bridge.Refuse != config.Drop {`, new: `if true {`,
	}, {
		row: "F11", defect: "a protocol that is not carried gets no answer", file: `vnicbridge/internal/userspace/admit.go`,
		old: `if !a.Later && rules.Answers(a.In, a.Dst) {`, new: `if false {`,
	}, {
		row: "F11", defect: "later fragments are refused", file: `vnicbridge/internal/userspace/admit.go`,
		old: `if !a.Later && rules.Answers(a.In, a.Dst) {`, new: `if rules.Answers(a.In, a.Dst) {`,
	}, {
		row: "F11", defect: "all ports are open", file: `vnicbridge/internal/userspace/admit.go`,
		old: `return rules.AnyPortContains(s.Ports, p.Tuple)`, new: `return true`,
	}, {
		row: "F11", defect: "all ports are open", file: "vnicbridge/internal/bpf/admit.h",
		old: "		if (in_range(&s->range[i], p))\n			return true;\n	return false;", new: "		if (in_range(&s->range[i], p))\n			return true;\n	return true;",
	}, {
		row: "F12", defect: "a segment that has all ports keeps them", file: `vnicbridge/internal/flow/holder.go`,
		old: `return other != segment.Index && t.Meters[other].Flows.Load() > 2*`, new: `return false && t.Meters[other].Flows.Load() > 2*`,
	}, {
		row: "F12", defect: "`egress off` is `egress gateway`", file: `vnicbridge/internal/rules/ruleset.go`,
		old: `if s.Egress == config.EgressOff || len(s.Gateways) == 0 {`, new: `if len(s.Gateways) == 0 {`,
	}, {
		row: "F12", defect: "`egress off` is `egress gateway`", file: "vnicbridge/internal/bpf/admit.h",
		old: `if (s->egress == EGRESS_OFF || !s->gateways)`, new: `if (!s->gateways)`,
	}, {
		row: "F12", defect: "`egress gateway` is `egress any`", file: `vnicbridge/internal/rules/ruleset.go`,
		old: `if s.Egress == config.EgressAny && r.PossibleSource(dst)`, new: `if r.PossibleSource(dst)`,
	}, {
		row: "F12", defect: "`egress gateway` is `egress any`", file: "vnicbridge/internal/bpf/admit.h",
		old: `(s->egress == EGRESS_ANY && !impossible(p->key.dst))`, new: `(!impossible(p->key.dst))`,
	}, {
		row: "F12", defect: "a port that another segment has is not mapped", file: `vnicbridge/internal/rules/replies.go`,
		old: `			t.Dport = randomPort(port)`, new: `			_ = port
			return`,
	}, {
		row: "F12", defect: "a port that is free is mapped", file: `vnicbridge/internal/rules/replies.go`,
		old: `		port := t.Dport` + "\n", new: `		port := t.Dport
		t.Dport = randomPort(port)
`,
	},
}
