package main

// flows are the defects of rows F1 to F12.
var flows = []mutation{
	{
		row: "F1", defect: "any TCP segment begins a flow", file: "vnicbridge/packet.go",
		old: `return p.tcpFlags&(tcpSYN|tcpACK|tcpRST|tcpFIN) == tcpSYN`, new: `return true`,
	}, {
		row: "F1", defect: "any TCP segment begins a flow", file: "vnicbridge/bpf/packet.h",
		old: `return (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;`, new: `return true;`,
	}, {
		row: "F1", defect: "the policy chooses for every packet", file: "vnicbridge/forwarder.go",
		old: `	a.reopened = nil` + "\n",
		new: `	a.reopened = nil
	if fl != nil && dir == forward && a.in.nic != nil {
		if to, _ := fw.rules.Load().bridges[a.in].decisions.decide(a.tuple); to != nil {
			moved := *fl
			moved.out, fl = to, &moved
		}
	}
`,
	}, {
		row: "F1", defect: "the policy chooses for every packet", file: "vnicbridge/bpf/bridge.c",
		old: `	__u32 to = f->answer.port;` + "\n",
		new: `	struct bridge_rules *b = RULES(bridges, self);
	__u32 to = b && b->live && f->dir == FORWARD ? decide(b, p) & ~LASTING : f->answer.port;
`,
	}, {
		row: "F2", defect: "the TTL is counted down", file: "vnicbridge/rewrite.go",
		old: `	copy(p.ip[12:16], to.src.v4())`, new: "	diff += putWord(p.ip[8:10], binary.BigEndian.Uint16(p.ip[8:]), binary.BigEndian.Uint16(p.ip[8:])-0x100)\n	copy(p.ip[12:16], to.src.v4())",
	}, {
		row: "F2", defect: "the TTL is counted down", file: "vnicbridge/bpf/packet.h",
		old: `	ip->saddr = answer->dst;`, new: "	ip->ttl--;\n	ip->saddr = answer->dst;",
	}, {
		row: "F2", defect: "TOS and ECN are cleared", file: "vnicbridge/rewrite.go",
		old: `	copy(p.ip[12:16], to.src.v4())`, new: "	p.ip[1] = 0\n	copy(p.ip[12:16], to.src.v4())",
	}, {
		row: "F2", defect: "TOS and ECN are cleared", file: "vnicbridge/bpf/packet.h",
		old: `	ip->saddr = answer->dst;`, new: "	ip->tos = 0;\n	ip->saddr = answer->dst;",
	}, {
		row: "F2", defect: "addresses of the other direction are written", file: "vnicbridge/bpf/packet.h",
		old: "	ip->saddr = answer->dst;\n	ip->daddr = answer->src;", new: "	ip->saddr = answer->src;\n	ip->daddr = answer->dst;",
	}, {
		row: "F3", defect: "the IP header's checksum is not mended", file: "vnicbridge/rewrite.go",
		old: "	copy(p.ip[16:20], to.dst.v4())\n	applyDiff(p.ip[10:12], diff)", new: "	copy(p.ip[16:20], to.dst.v4())",
	}, {
		row: "F3", defect: "the IP header's checksum is not mended", file: "vnicbridge/bpf/packet.h",
		old: `	set_check(ip, ~fold16(fold((__u64)diff + (__u16)~ip->check)));` + "\n",
	}, {
		row: "F3", defect: "a UDP checksum of zero is mended", file: "vnicbridge/checksum.go",
		old: "	if field[0]|field[1] == 0 {\n		return\n	}\n",
	}, {
		row: "F3", defect: "a UDP checksum of zero is mended, and one may become zero", file: "vnicbridge/bpf/packet.h",
		old: `p->key.proto == IPPROTO_TCP ? 0 : BPF_F_MARK_MANGLED_0;`, new: `0;`,
	}, {
		row: "F3", defect: "a computed zero goes out as zero", file: "vnicbridge/checksum.go",
		old: `		field[0], field[1] = 0xff, 0xff` + "\n",
	}, {
		row: "F3", defect: "an unfinished checksum is taken for a finished one", file: "vnicbridge/rewrite.go",
		old: `	if unfinished {`, new: `	if false {`,
	}, {
		row: "F3", defect: "an unfinished checksum is taken for a finished one", file: "vnicbridge/bpf/packet.h",
		old: `BPF_F_PSEUDO_HDR | mangled);`, new: `mangled);`, tests: "integration.TestBulkTraffic",
	}, {
		row: "F4", defect: "a RST changes nothing", file: "vnicbridge/tcpstate.go",
		old: "	case segment&tcpRST != 0:\n		return flags | believed", new: "	case segment&tcpRST != 0:\n		return flags",
	}, {
		row: "F4", defect: "a RST changes nothing", file: "vnicbridge/bpf/flow.h",
		old: "	if (unlikely(p->tcp_flags & TCP_RST)) {\n		add |= believed(p, f);", new: "	if (unlikely(p->tcp_flags & TCP_RST)) {\n		add |= 0;",
	}, {
		row: "F4", defect: "traffic after a RST does not restore the flow", file: "vnicbridge/tcpstate.go",
		old: `	flags &^= flowReset | flowOver` + "\n",
	}, {
		row: "F4", defect: "traffic after a RST does not restore the flow", file: "vnicbridge/bpf/flow.h",
		old: `		drop = flags & (FLOW_RESET | FLOW_OVER);`, new: `		drop = 0;`,
	}, {
		row: "F4", defect: "one FIN closes a flow", file: "vnicbridge/tcpstate.go",
		old: `return flags&flowReset != 0 || flags&flowFINs == flowFINs }`, new: `return flags&flowReset != 0 || flags&flowFINs != 0 }`,
	}, {
		row: "F4", defect: "established flows end after an hour", file: "vnicbridge/tcpstate.go",
		old: `2*time.Hour + 4*time.Minute,`, new: `time.Hour,`,
	}, {
		row: "F4", defect: "flows without a handshake live as long as established ones", file: "vnicbridge/tcpstate.go",
		old: `classHalfOpen:    4 * time.Minute, `, new: `classHalfOpen:    124 * time.Minute, `,
	}, {
		row: "F4", defect: "UDP flows end after a minute", file: "vnicbridge/tcpstate.go",
		old: `classUDP:         5 * time.Minute, `, new: `classUDP:         1 * time.Minute, `,
	}, {
		row: "F4", defect: "ICMP flows end after ten seconds", file: "vnicbridge/tcpstate.go",
		old: `classICMP:        60 * time.Second, `, new: `classICMP:        10 * time.Second, `,
	}, {
		row: "F4", defect: "a packet does not refresh its flow", file: "vnicbridge/bpf/flow.h",
		old: `		s->last_seen = plane.clock;`, new: `		s->last_seen = s->last_seen;`,
	}, {
		row: "F4", defect: "a SYN on a closing flow opens none", file: "vnicbridge/flow.go",
		old: `return p.proto == TCP && closedForBoth(f.flags.Load()) && p.begins()`, new: `return false`,
	}, {
		row: "F4", defect: "a SYN on an established flow opens another", file: "vnicbridge/flow.go",
		old: `return p.proto == TCP && closedForBoth(f.flags.Load()) && p.begins()`, new: `return p.proto == TCP && p.begins()`,
	}, {
		row: "F4", defect: "a SYN on a closing flow opens none", file: "vnicbridge/bpf/flow.h",
		old: `return p->key.proto == IPPROTO_TCP && closed_for_both(r->state.flags) && begins(p);`, new: `return false;`,
	}, {
		row: "F4+", defect: "any RST is believed", file: "vnicbridge/tcpstate.go",
		old: `	case acked && p.seq()-other.ack.Load() <= window:`, new: `	case acked:`,
	}, {
		row: "F4+", defect: "any RST is believed", file: "vnicbridge/bpf/flow.h",
		old: `	if (acked && p->seq - other->ack <= window)`, new: `	if (acked)`,
	}, {
		row: "F4+", defect: "any FIN is believed", file: "vnicbridge/tcpstate.go",
		old: `known := acked && p.next()-1-other.ack.Load() <= window`, new: `known := acked`,
	}, {
		row: "F4+", defect: "any FIN is believed", file: "vnicbridge/bpf/flow.h",
		old: `acked ? at - other->ack <= window :`, new: `acked ? at | 1 :`,
	}, {
		row: "F4+", defect: "a SYN chooses anew after an inexact RST", file: "vnicbridge/tcpstate.go",
		old: `		if dir == reverse || p.seq() == other.ack.Load() {`, new: `		if true {`,
	}, {
		row: "F4+", defect: "a SYN chooses anew after an inexact RST", file: "vnicbridge/bpf/flow.h",
		old: `return f->dir == BACKWARD || p->seq == other->ack ? FLOW_RESET | FLOW_OVER : FLOW_RESET;`, new: `return FLOW_RESET | FLOW_OVER;`,
	}, {
		row: "F4+", defect: "the server's SYN-ACK begins no connection", file: "vnicbridge/tcpstate.go",
		old: `			if flags&flowReset != 0 {`, new: `			if false {`,
	}, {
		row: "F4+", defect: "the server's SYN-ACK begins no connection", file: "vnicbridge/bpf/flow.h",
		old: `			if (flags & FLOW_RESET)`, new: `			if (0)`,
	}, {
		row: "F4+", defect: "windows count as if they were not scaled", file: "vnicbridge/tcpsegment.go",
		old: `return min(uint32(options[2]), maxWindowScale)`, new: `return 0`,
	}, {
		row: "F4+", defect: "windows count as if they were not scaled", file: "vnicbridge/bpf/bridge.c",
		old: `		p->scale = window_scale(skb, p->options);`, new: `		p->scale = 0;`,
	}, {
		row: "F4+", defect: "a RST that answers a SYN is not believed", file: "vnicbridge/tcpstate.go",
		old: `	case dir == reverse && (!acked || isClosing(flags)):`, new: `	case false:`,
	}, {
		row: "F4+", defect: "a forged SYN changes what is known of windows", file: "vnicbridge/bpf/flow.h",
		old: `	if (s->flags & FLOW_ESTABLISHED && !closing(s->flags))`, new: `	if (0)`,
	}, {
		row: "F4+", defect: "a forged SYN changes what is known of windows", file: "vnicbridge/tcpstate.go",
		old: `	case flags&flowEstablished == 0 || isClosing(flags): // else the SYN may be forged`, new: `	case flags >= 0:`,
	}, {
		row: "F5", defect: "no flow is picked up", file: "vnicbridge/admit.go",
		old: `if !a.begins() && !(lasting && a.continues()) {`, new: `if _ = lasting; !a.begins() {`,
	}, {
		row: "F5", defect: "flows are picked up under any policy", file: "vnicbridge/admit.go",
		old: `if !a.begins() && !(lasting && a.continues()) {`, new: `if _ = lasting; !a.begins() && !a.continues() {`,
	}, {
		row: "F5", defect: "flows are picked up under any policy", file: "vnicbridge/bpf/admit.h",
		old: `if (!begins(p) && !(lasting && continues(p)))`, new: `if (!begins(p) && !continues(p))`,
	}, {
		row: "F5", defect: "a sender without a flow is left hanging", file: "vnicbridge/admit.go",
		old: "		// Silence would leave a client whose flow is gone hanging (F5).\n		fw.answerRefusal(a)\n", new: "",
	}, {
		row: "F5", defect: "a sender without a flow is left hanging", file: "vnicbridge/bpf/admit.h",
		old: `return refuse(p, DROP_NO_FLOW);`, new: `return DROP_NO_FLOW;`,
	}, {
		row: "F5", defect: "a RST is answered with a RST", file: "vnicbridge/reject.go",
		old: `if a.proto == TCP && a.tcpFlags&tcpRST != 0 || a.proto == ICMP`, new: `if a.proto == ICMP`,
	}, {
		row: "F5", defect: "a flood of refusals is sent", file: "vnicbridge/reject.go",
		old: ` || !a.allows(fw.limits(a.in).refusals) {`, new: ` {`,
	}, {
		row: "F5+", defect: "no flow is picked up from the server's side", file: "vnicbridge/admit.go",
		old: `	if fl := fw.pickUp(a, rules, segment); fl != nil {`, new: `	if fl := fw.pickUp(a, rules, segment); fl != nil && false {`,
	}, {
		row: "F5+", defect: "a segment picks up what is another's", file: "vnicbridge/pickup.go",
		old: `		if lasting && to == a.in && fw.enters(segment, to, &question) {`, new: `		if _, _ = to, lasting; fw.enters(segment, a.in, &question) {`,
	}, {
		row: "F5+", defect: "a closed port's flow is picked up", file: "vnicbridge/pickup.go",
		old: `		if lasting && to == a.in && fw.enters(segment, to, &question) {`, new: `		if lasting && to == a.in {`,
	}, {
		row: "F5+", defect: "a flow of another segment with the client's tuple is taken for the server's", file: "vnicbridge/pickup.go",
		old: `	if f == nil || f.out != a.in || f.reply != a.tuple {`, new: `	if f == nil {`,
	}, {
		row: "F5+", defect: "a flow that only its server speaks in is established", file: "vnicbridge/tcpstate.go",
		old: `	opened := dir == forward || pickedUp && flags&flowAcked != 0`, new: `	opened := dir == forward || pickedUp`,
	}, {
		row: "F5+", defect: "a flow that only its server speaks in is established", file: "vnicbridge/bpf/flow.h",
		old: `(flags & FLOW_PICKED_UP && flags & FLOW_ACKED)`, new: `flags & FLOW_PICKED_UP`,
	}, {
		row: "F5+", defect: "a server without a flow is left hanging", file: "vnicbridge/forwarder.go",
		old: `	fw.endOrphans(now)` + "\n",
	}, {
		row: "F5+", defect: "a server is reset although its client has spoken", file: "vnicbridge/orphans.go",
		old: `		if f, _ := fw.flows.lookup(orphan.key); f != nil || orphan.in.closed.Load() {`, new: `		if orphan.in.closed.Load() {`,
	}, {
		row: "F5+", defect: "any number of servers without flows is remembered", file: "vnicbridge/orphans.go",
		old: `	if len(o.known.byKey) == maxOrphans {`, new: `	if false {`,
	}, {
		row: "F5+", defect: "a stop resets what comes back", file: "vnicbridge/reset.go",
		old: ` && (comesBack == nil || !comesBack(f)) {`, new: ` {`,
	}, {
		row: "F5+", defect: "a stop tells nobody", file: "vnicbridge/reset.go",
		old: ` && (comesBack == nil || !comesBack(f)) {`, new: ` && comesBack == nil {`,
	}, {
		row: "F5+", defect: "a stop leaves Caddy's own connections in silence", file: "vnicbridge/pickup.go",
		old: ` || fw.open.wereOurs(to.vnic.segment, f.orig) {`, new: ` {`,
	}, {
		row: "F5+", defect: "a RST carries only what was acknowledged", file: "vnicbridge/reset.go",
		old: `	if sent != acknowledged {`, new: `	if false {`,
	}, {
		row: "F6", defect: "the quoted header stays as it was", file: "vnicbridge/icmperror.go",
		old: `	a.rewriteQuote(quoted, tuple.reversed())` + "\n",
	}, {
		row: "F6", defect: "the outer header stays as it was", file: "vnicbridge/icmperror.go",
		old: "	a.rewriteAddresses(tuple)\n	return a.leaveBy", new: "	return a.leaveBy",
	}, {
		row: "F6", defect: "a quote of 8 bytes is dropped", file: "vnicbridge/quote.go",
		old: `p.later || len(p.l4) < 8 {`, new: `p.later || len(p.l4) < tcpMinLen {`,
	}, {
		row: "F6", defect: "an error refreshes its flow", file: "vnicbridge/icmperror.go",
		old: `	a.rewriteQuote(quoted, tuple.reversed())`, new: "	fl.lastSeen.Store(coarse(a.now))\n	a.rewriteQuote(quoted, tuple.reversed())",
	}, {
		row: "F6", defect: "an error ends its flow", file: "vnicbridge/icmperror.go",
		old: `	a.rewriteQuote(quoted, tuple.reversed())`, new: "	fw.flows.remove(fl, a.now)\n	a.rewriteQuote(quoted, tuple.reversed())",
	}, {
		row: "F6", defect: "an error about no flow is let in", file: "vnicbridge/icmperror.go",
		old: "	if fl == nil {\n		return dropNoFlow\n	}\n	to, tuple", new: "	if fl == nil {\n		for _, vnic := range fw.rules.Load().vnics {\n			return a.leaveBy(vnic, a.dst)\n		}\n	}\n	to, tuple",
	}, {
		row: "F6", defect: "a router is seen as the flow's other host", file: "vnicbridge/icmperror.go",
		old: `if a.in.nic != nil && a.src != quoted.dst {`, new: `if false {`,
	}, {
		row: "F6", defect: "the flow's other host is seen as a router", file: "vnicbridge/icmperror.go",
		old: `if a.in.nic != nil && a.src != quoted.dst {`, new: `if a.in.nic != nil {`,
	}, {
		row: "F6", defect: "a router has the alias of the flow's other host", file: "vnicbridge/hosts.go",
		old: `alias != host {`, new: `true {`,
	}, {
		row: "F6", defect: "a router is an alias to a segment that sees clients by their addresses", file: "vnicbridge/hosts.go",
		old: `if segment.preserve && r.possibleSource(router) {`, new: `if false {`,
	}, {
		row: "F6", defect: "a router has an address of a segment", file: "vnicbridge/hosts.go",
		old: `if segment.preserve && r.possibleSource(router) {`, new: `if segment.preserve {`,
	}, {
		row: "F6", defect: "an error is taken for an echo", file: "vnicbridge/bpf/packet.h",
		old: "	else\n		return SLOW;\n	return KEEP;", new: "	return KEEP;",
	}, {
		row: "F6+", defect: "routers whose addresses are ours are not heard", file: "vnicbridge/icmperror.go",
		old: `!possibleRouter(a.src, a.in.nic.address)`, new: `!fw.rules.Load().possibleSource(a.src)`,
	}, {
		row: "F6+", defect: "anybody is heard", file: "vnicbridge/icmperror.go",
		old: `!possibleRouter(a.src, a.in.nic.address)`, new: `false`,
	}, {
		row: "F6+", defect: "240/4 is not unicast", file: "vnicbridge/ruleset.go",
		old: `"224.0.0.0/4"`, new: `"224.0.0.0/3"`,
	}, {
		row: "F7", defect: "fragments that come before the first are dropped", file: "vnicbridge/fragmenttable.go",
		old: "		t.hold(q, d, a.frame)\n",
	}, {
		row: "F7", defect: "any number of bytes is held", file: "vnicbridge/fragmenttable.go",
		old: `	for q.held > maxHeldBytes {`, new: `	for false {`,
	}, {
		row: "F7", defect: "any number of datagrams is remembered", file: "vnicbridge/fragmenttable.go",
		old: `if to.Len() >= to.most {`, new: `if false {`,
	}, {
		row: "F7", defect: "unfinished datagrams are never forgotten", file: "vnicbridge/fragmenttable.go",
		old: `now-d.came >= int64(fragmentTime)`, new: `false`,
	}, {
		row: "F7", defect: "two datagrams leave with one identification", file: "vnicbridge/fragmenttable.go",
		old: `if other == nil || other.key == d.key && other.whole() {`, new: `if other == nil || other != nil {`,
	}, {
		row: "F7", defect: "fragments are taken for whole packets", file: "vnicbridge/bpf/packet.h",
		old: `ip->ihl != 5 || ip->frag_off & IP_FRAGMENT ||`, new: `ip->ihl != 5 ||`,
	}, {
		row: "F7+", defect: "a first fragment belongs to the datagram that had its identification", file: "vnicbridge/fragmenttable.go",
		old: `if d != nil && d.begun {` + "\n		t.finish", new: `if d != nil && d.refused {` + "\n		t.finish",
	}, {
		row: "F7+", defect: "an identification stays a datagram's when that is whole", file: "vnicbridge/fragmenttable.go",
		old: "	if d.whole() {\n		t.finish(q, d, a.now)\n	}\n	return d, keep", new: "	return d, keep",
	}, {
		row: "F7+", defect: "what follows a refused fragment goes an older one's way", file: "vnicbridge/fragment.go",
		old: "		fw.fragments.refuse(key, a)\n",
	}, {
		row: "F7+", defect: "a flood keeps newer fragments out", file: "vnicbridge/fragmenttable.go",
		old: `t.forget(q, to.oldest())`, new: `t.forget(q, to.Back().Value.(*datagram))`,
	}, {
		row: "F7+", defect: "one segment's fragments make room for another one's", file: "vnicbridge/fragmenttable.go",
		old: "	q := t.ports[p]\n", new: "	for p = range t.ports {\n		break\n	}\n	q := t.ports[p]\n",
	}, {
		row: "F7+", defect: "fragments without a first one take the others' room", file: "vnicbridge/bpf/limit.h",
		old: `!spend(strays, ODD_PACKETS / 2, ODD_INTERVALS)`, new: `!spend(odd, ODD_PACKETS / 2, ODD_INTERVALS)`,
	}, {
		row: "F7+", defect: "fragments that overlap go on", file: "vnicbridge/fragmenttable.go",
		old: `if overlaps || contradicts ||`, new: `if overlaps && false || contradicts ||`,
	}, {
		row: "F7+", defect: "a datagram may have two ends", file: "vnicbridge/fragmenttable.go",
		old: `if overlaps || contradicts ||`, new: `if overlaps || contradicts && false ||`,
	}, {
		row: "F7+", defect: "fragments from impossible sources take memory", file: "vnicbridge/fragment.go",
		old: `if a.in.nic != nil && !fw.rules.Load().possibleSource(a.src) {`, new: `if false {`,
	}, {
		row: "F8", defect: "a packet that is too big is sent", file: "vnicbridge/icmperror.go",
		old: `return !cut || a.headersLen()+size > mtu`, new: `return cut && !cut`,
	}, {
		row: "F8", defect: "a packet that is too big is sent", file: "vnicbridge/bpf/bridge.c",
		old: `if (unlikely(too_big(skb, p, out->mtu)))`, new: `if (0 && too_big(skb, p, out->mtu))`,
	}, {
		row: "F8", defect: "the pieces of a super-packet may have any size", file: "vnicbridge/icmperror.go",
		old: `return !cut || a.headersLen()+size > mtu`, new: `return !cut`,
	}, {
		row: "F8", defect: "the pieces of a super-packet may have any size", file: "vnicbridge/bpf/bridge.c",
		old: ` + l4 + skb->gso_size > mtu)`, new: ` + l4 > mtu)`,
	}, {
		row: "F8", defect: "TCP's options are no part of a super-packet's pieces", file: "vnicbridge/icmperror.go",
		old: `return !cut || a.headersLen()+size > mtu`, new: `return !cut || ipv4MinLen+udpHeaderLen+size > mtu`,
	}, {
		row: "F8", defect: "a flood of refusals keeps senders from learning the MTU", file: "vnicbridge/reject.go",
		old: `!a.allows(fw.limits(a.in).tooBig)`, new: `!a.allows(fw.limits(a.in).refusals)`,
	}, {
		row: "F8", defect: "its sender is not told", file: "vnicbridge/icmperror.go",
		old: `		a.sendBack(f)` + "\n", new: "		_ = f\n",
	}, {
		row: "F8", defect: "a super-packet is refused", file: "vnicbridge/icmperror.go",
		old: `return !cut || a.headersLen()+size > mtu`, new: `return cut || !cut`,
		tests: "vnicbridge.TestSuperPackets integration.TestBulkTraffic",
	}, {
		row: "F8", defect: "a VNIC's MTU is not its NIC's", file: "vnicbridge/vnicsettings.go",
		old: `		if m := int(bridges[name].port.mtu.Load()); mtu == 0 || m < mtu {`, new: `		if m := int(bridges[name].port.mtu.Load()); m < 0 {`,
		tests: "integration.TestMTUFollows",
	}, {
		row: "F8", defect: "a packet beyond 64 KiB is taken for a malformed one", file: "vnicbridge/packet.go",
		old: `if total == 0 && f.isSuperTCP() {`, new: `if false {`,
		tests: "integration.TestSwitchedOnOffloads",
	}, {
		row: "F8", defect: "a packet beyond 64 KiB is left to userspace", file: "vnicbridge/bpf/packet.h",
		old: `if (unlikely(!size) && skb->gso_size && ip->protocol == IPPROTO_TCP)`, new: `if (0)`,
		tests: "integration.TestSwitchedOnOffloads",
	}, {
		row: "F8", defect: "a packet beyond 64 KiB never fits", file: "vnicbridge/packetsocket_linux.go",
		old: `	if m.truncated && m.length < largestFrameLen {`, new: `	if false {`,
		tests: "integration.TestSwitchedOnOffloads",
	}, {
		row: "F9", defect: "UDP begins no flow", file: "vnicbridge/packet.go",
		old: "	case UDP:\n		return true\n	default:", new: "	case UDP:\n		return false\n	default:",
	}, {
		row: "F9", defect: "UDP begins no flow", file: "vnicbridge/bpf/packet.h",
		old: "		return p->icmp_type == ICMP_ECHO_REQUEST;\n	}\n	return true;", new: "		return p->icmp_type == ICMP_ECHO_REQUEST;\n	}\n	return false;",
	}, {
		row: "F10", defect: "new rules end the flows that there are", file: "vnicbridge/datapaths.go",
		old: `	d.forwarder.setRules(r)` + "\n", new: "	d.forwarder.setRules(r)\n	d.forwarder.end(func(*flow) bool { return true }, nil)\n",
	}, {
		row: "F10", defect: "a drained segment gets new flows", file: "vnicbridge/rules.go",
		old: `if p.states[name] == Active && p.health.condition(s.port).problem == "" {`, new: `if p.health.condition(s.port).problem == "" {`,
	}, {
		row: "F10", defect: "an unhealthy segment gets new flows", file: "vnicbridge/rules.go",
		old: `if p.states[name] == Active && p.health.condition(s.port).problem == "" {`, new: `if p.states[name] == Active {`,
	}, {
		row: "F10", defect: "a switch changes nothing", file: "vnicbridge/override.go",
		old: `		b.LBPolicy = b.LBPolicy.preferring(segment)` + "\n",
	}, {
		row: "F10", defect: "a weight set by hand changes nothing", file: "vnicbridge/override.go",
		old: "	if w := o.weights[segment]; w != 0 {\n		return w\n	}\n",
	}, {
		row: "F10", defect: "the flows of a removed segment are not reset", file: "vnicbridge/devices.go",
		old: `	p.path.end(func(f *flow) bool { return f.in == gone || f.out == gone }, p.comesBack)` + "\n",
	}, {
		row: "F10+", defect: "datagrams stay at an unhealthy segment", file: "vnicbridge/verdicts.go",
		old: `		p.path.rechooseAt(s.port)` + "\n",
	}, {
		row: "F10+", defect: "datagrams stay that came while a segment became unhealthy", file: "vnicbridge/maintain.go",
		old: `	p.leaveUnhealthy()` + "\n",
	}, {
		row: "F10+", defect: "datagrams stay at a closed port", file: "vnicbridge/icmperror.go",
		old: `	if a.saysClosed(fl) {`, new: `	if false {`,
	}, {
		row: "F10+", defect: "anybody can say that a port is closed", file: "vnicbridge/rechoose.go",
		old: `fl.in.nic != nil && fl.out == a.in &&`, new: `fl.in.nic != nil &&`,
	}, {
		row: "F10+", defect: "any unreachability ends a flow", file: "vnicbridge/rechoose.go",
		old: `a.l4[0] == icmpUnreachable && a.l4[1] == icmpPortUnreachable`, new: `a.l4[0] == icmpUnreachable`,
	}, {
		row: "F10+", defect: "connections end where datagrams choose again", file: "vnicbridge/rechoose.go",
		old: `return f.orig.proto != TCP && f.in.nic != nil && condition(f)`, new: `return f.in.nic != nil && condition(f)`,
	}, {
		row: "F10+", defect: "what a segment has opened ends, too", file: "vnicbridge/rechoose.go",
		old: `return f.orig.proto != TCP && f.in.nic != nil && condition(f)`, new: `return f.orig.proto != TCP && (condition(f) || f.in.vnic != nil)`,
	}, {
		row: "F10+", defect: "a switch takes what a steer rule has given", file: "vnicbridge/rechoose.go",
		old: `return f.in == nic && !steered && `, new: `_ = steered` + "\n		return f.in == nic && ",
	}, {
		row: "F11", defect: "nobody is refused aloud", file: "vnicbridge/admit.go",
		old: `if bridge.refuse != Drop {`, new: `if false {`,
	}, {
		row: "F11", defect: "nobody is refused aloud", file: "vnicbridge/bpf/admit.h",
		old: `return b->silent ? reason : refuse(p, reason);`, new: `return reason;`,
	}, {
		row: "F11", defect: "all are refused aloud", file: "vnicbridge/admit.go",
		old: `if bridge.refuse != Drop {`, new: `if true {`,
	}, {
		row: "F11", defect: "a protocol that is not carried is met with silence", file: "vnicbridge/admit.go",
		old: `if !a.later && rules.answers(a.in, a.dst) {`, new: `if false {`,
	}, {
		row: "F11", defect: "later fragments are refused", file: "vnicbridge/admit.go",
		old: `if !a.later && rules.answers(a.in, a.dst) {`, new: `if rules.answers(a.in, a.dst) {`,
	}, {
		row: "F11", defect: "all ports are open", file: "vnicbridge/admit.go",
		old: `return anyPortContains(s.ports, p.tuple)`, new: `return true`,
	}, {
		row: "F11", defect: "all ports are open", file: "vnicbridge/bpf/admit.h",
		old: "		if (in_range(&s->range[i], p))\n			return true;\n	return false;", new: "		if (in_range(&s->range[i], p))\n			return true;\n	return true;",
	}, {
		row: "F12", defect: "`egress off` is `egress gateway`", file: "vnicbridge/ruleset.go",
		old: `if s.egress == EgressOff || len(s.gateways) == 0 {`, new: `if len(s.gateways) == 0 {`,
	}, {
		row: "F12", defect: "`egress off` is `egress gateway`", file: "vnicbridge/bpf/admit.h",
		old: `if (s->egress == EGRESS_OFF || !s->gateways)`, new: `if (!s->gateways)`,
	}, {
		row: "F12", defect: "`egress gateway` is `egress any`", file: "vnicbridge/ruleset.go",
		old: `if s.egress == EgressAny && r.possibleSource(dst)`, new: `if r.possibleSource(dst)`,
	}, {
		row: "F12", defect: "`egress gateway` is `egress any`", file: "vnicbridge/bpf/admit.h",
		old: `(s->egress == EGRESS_ANY && !impossible(p->key.dst))`, new: `(!impossible(p->key.dst))`,
	}, {
		row: "F12", defect: "a port that another segment has is not mapped", file: "vnicbridge/replies.go",
		old: `			t.dport = randomPort(port)`, new: "			_ = port\n			return",
	}, {
		row: "F12", defect: "a port that is free is mapped", file: "vnicbridge/replies.go",
		old: `		port := t.dport` + "\n", new: "		port := t.dport\n		t.dport = randomPort(port)\n",
	},
}
