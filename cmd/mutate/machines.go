package main

// machines are the defects of rows H1 to H12.
var machines = []mutation{
	{
		row: "H1", defect: "the end of the elector changes nothing", file: "vnicbridge/roles.go",
		old: `		p.roles.forgetHeard(fifo)
		p.turnAll()`, new: `		p.turnAll()`,
	}, {
		row: "H1", defect: "the state is lost when flows move to another table", file: "vnicbridge/datapaths.go",
		old: `				g.Standby.Store(ifc.Gauges().Standby.Load())`, new: ``,
	}, {
		row: "H1", defect: "failover that is removed does not claim the addresses", file: "vnicbridge/apply.go",
		old: `t.unclaimed(name) || !b.iface.Unclaimed()`, new: `true`,
	}, {
		row: "H2", defect: "a bridge that stands by answers ARP", file: "vnicbridge/internal/link/claim.go",
		old: `	c.claimed, c.standby, c.announces = false, true, 0`, new: `	c.announces = 0`, tests: "vnicbridge.TestStandbyIsSilentAgain",
	}, {
		row: "H2", defect: "a bridge that stands by answers NDP", file: "vnicbridge/internal/link/ndpclaim.go",
		old: `	l.standby, l.announces = true, 0
	l.pseudo, l.linkLocal = newNDPClaim(l.pseudo.address), newNDPClaim(l.linkLocal.address)`, new: `	l.announces = 0`,
		tests: "vnicbridge.TestStandbyIsSilentAgain",
	}, {
		row: "H1", defect: "the machine that has the address counts as a rival later", file: "vnicbridge/internal/link/ndpclaim.go",
		old: `	case l.standby:
		return nil
	case address`, new: `	case address`, tests: "vnicbridge.TestReloadsOfFailover",
	}, {
		row: "H2", defect: "a bridge that stands by reports its groups", file: "vnicbridge/internal/link/ipv6.go",
		old: `	if l.standby {
		return
	}`, new: ``,
	}, {
		row: "H2", defect: "a bridge that stands by asks for next hops in the name of the pseudo address", file: "vnicbridge/internal/link/ethernet.go",
		old: `		if nic.Unclaimed() {`, new: `		if false {`,
	}, {
		row: "H2", defect: "userspace resets connections while another machine has the address", file: "vnicbridge/internal/userspace/admit.go",
		old: `	if a.In.StandsBy() {
		return nil, packet.DropStandby
	}`, new: ``, tests: "vnicbridge.TestStandbyIsSilent",
	}, {
		row: "H2", defect: "the programs open flows from the network while another machine has the address", file: bpfDir + "/admit.h",
		old: `	if (stands_by(self))
		return DROP_STANDBY;
	if (impossible`, new: `	if (impossible`, tests: "vnicbridge.TestStandbyIsSilent",
	}, {
		row: "H2", defect: "the same for IPv6", file: bpfDir + "/admit6.h",
		old: `	if (stands_by(self6))
		return DROP_STANDBY;
	if (impossible6`, new: `	if (impossible6`, tests: "vnicbridge.TestStandbyIsSilent",
	}, {
		row: "H2", defect: "the programs open flows of a segment while another machine has the address", file: bpfDir + "/admit.h",
		old: `	if (stands_by(to))
		return DROP_STANDBY;`, new: ``, tests: "vnicbridge.TestStandbyIsSilent",
	}, {
		row: "H2", defect: "a connection is picked up from a segment while another machine has the address", file: "vnicbridge/internal/userspace/pickup.go",
		old: `nic.StandsBy() || client`, new: `client`, tests: "vnicbridge.TestStandbyIsSilent",
	}, {
		row: "H2", defect: "flows that end are reset while another machine has the address", file: "vnicbridge/internal/userspace/reset.go",
		old: `	if to.StandsBy() {`, new: `	if false {`, tests: "vnicbridge.TestStandbyCarriesItsFlows",
	}, {
		row: "H2", defect: "a bridge that stands by answers for aliases behind a device", file: "vnicbridge/internal/link/server.go",
		old: `	if s.vnic.StandsBy() {
		return packet.DropARP // another machine answers
	}`, new: ``, tests: "vnicbridge.TestStandbyIsSilentBehindADevice",
	}, {
		row: "H2", defect: "a bridge that stands by asks for the server in the name of an alias", file: "vnicbridge/internal/link/server.go",
		old: `	case !s.vnic.StandsBy():`, new: `	case true:`, tests: "vnicbridge.TestStandbyIsSilentBehindADevice",
	}, {
		row: "H2", defect: "a bridge that stands by has its MAC behind a device", file: "vnicbridge/internal/iface/iface.go",
		old: `p.VNIC.Remote && p.StandsBy()`, new: `false`, tests: "integration.TestStandbyMachineIsSilentBehindADevice",
	}, {
		row: "H2", defect: "the programs send packets of known flows from the bridge's MAC", file: bpfDir + "/packet.h",
		old: ` || (!out->nic && stands_by(iface))`, new: ``, tests: "vnicbridge.TestStandbyCarriesItsFlowsBehindADevice",
	}, {
		row: "H2", defect: "the programs open flows of a server whose aliases another machine has", file: bpfDir + "/admit.h",
		old: `	if (stands_by(self))
		return DROP_STANDBY;
	peer`, new: `	peer`, tests: "vnicbridge.TestStandbyIsSilentBehindADevice",
	}, {
		row: "H2", defect: "the programs open flows to such a server", file: bpfDir + "/admit6.h",
		old: ` || stands_by(peer->to)`, new: ``, tests: "vnicbridge.TestStandbyIsSilentBehindADevice",
	}, {
		row: "H2", defect: "userspace opens flows to such a server", file: "vnicbridge/internal/userspace/admit.go",
		old: `	if peer.To.StandsBy() {`, new: `	if false {`, tests: "vnicbridge.TestStandbyIsSilentBehindADevice",
	}, {
		row: "H2", defect: "such a server gets a RST for a connection of the other machine's", file: "vnicbridge/internal/userspace/orphans.go",
		old: ` || orphan.in.StandsBy()`, new: ``, tests: "vnicbridge.TestStandbyCarriesItsFlowsBehindADevice",
	}, {
		row: "H2", defect: "switches do not hear of a takeover", file: "vnicbridge/roles.go",
		old: `	p.takeOverRemotes(p.remotesOf(b))`, new: ``, tests: "vnicbridge.TestTakeOverBehindADevice",
	}, {
		row: "H2", defect: "such a server is checked", file: "vnicbridge/internal/health/checker.go",
		old: `c.isElsewhere(server) || `, new: ``, tests: "vnicbridge.TestChecksWaitWhileAnotherMachineHasTheAliases",
	}, {
		row: "H3", defect: "the first announcement waits for a tick", file: "vnicbridge/internal/link/claim.go",
		old: `	c.mu.Unlock()
	c.tick(now)`, new: `	c.mu.Unlock()`,
	}, {
		row: "H3", defect: "no group is reported", file: "vnicbridge/internal/link/ndpclaim.go",
		old: `	l.announceDue(now)
	l.reportDue(now)`, new: `	l.announceDue(now)`,
	}, {
		row: "H3", defect: "flows are not accepted", file: "vnicbridge/roles.go",
		old: `func (p *Plane) activate(b *bridge) {
	p.setStandby(b, 0)`, new: `func (p *Plane) activate(b *bridge) {`,
	}, {
		row: "H4", defect: "the elector is told of a segment at once", file: "vnicbridge/fitness.go",
		old: `now-r.fitSince >= int64(fitAfter)`, new: `true`,
	}, {
		row: "H4", defect: "the elector is not told again what somebody has overwritten", file: "vnicbridge/fitness.go",
		old: `now-r.toldAt < int64(tellAgain)`, new: `true`, tests: "vnicbridge.TestFitness",
	}, {
		row: "H4", defect: "a bridge without a gateway is fit", file: "vnicbridge/fitness.go",
		old: `!mac.IsZero() && !link.Table().GatewaySilent()`, new: `!mac.IsZero()`, tests: "vnicbridge.TestFitness",
	}, {
		row: "H4", defect: "a Caddy that ends stays fit", file: "vnicbridge/plane.go",
		old: `	p.leaveElections()`, new: ``, tests: "vnicbridge.TestFitness",
	}, {
		row: "H5", defect: "the address is not announced when the other gives up", file: "vnicbridge/roles.go",
		old: `p.activate(r.bridge) // it announces its addresses again (H5)`, new: `_ = r`,
	}, {
		row: "H5", defect: "a bridge that stands by defends its address", file: "vnicbridge/internal/link/claim.go",
		old: `	if c.standby {
		return false
	}`, new: `	c.claimed = c.claimed || c.standby`,
	},
	{
		row: "H6", defect: "each machine decides by its own secret", file: "vnicbridge/hashsecret.go",
		old: `	if !cfg.Key.IsZero() {`, new: `	if false {`,
	}, {
		row: "H6", defect: "the programs keep the key with which they began", file: "vnicbridge/internal/kernel/rules_linux.go",
		old: `	k.plane.hashKey = [2]uint64{r.Key.K0, r.Key.K1}`, new: `	if k.sets <= 1 {
		k.plane.hashKey = [2]uint64{r.Key.K0, r.Key.K1}
	}`,
	}, {
		row: "H7", defect: "the bridge's MAC behind a device differs from machine to machine", file: "vnicbridge/apply.go",
		old: `p.keyOf(c).MAC(deviceUse(c, name))`, new: `p.keyOf(c).MAC(p.started.String() + name)`, tests: "vnicbridge.TestMACsBehindADevice",
	}, {
		row: "H7", defect: "a server's packet opens no flow", file: "vnicbridge/internal/userspace/pickup.go",
		old: `		if lasting && to == vnic && fw.enters(segment, to, &question) {`, new: `		if false && lasting && to == vnic && fw.enters(segment, to, &question) {`, tests: "integration.TestTakeover",
	}, {
		row: "H8", defect: "an error about an unknown flow is dropped", file: "vnicbridge/internal/userspace/strangeerror.go",
		old: `	case to == nil:`, new: `	case true:`, tests: "integration.TestErrorsAboutAnotherMachinesFlows",
	}, {
		row: "H8", defect: "any number of them is carried", file: "vnicbridge/internal/userspace/strangeerror.go",
		old: `	case !a.allows(fw.limits(a.In).strangeErrors):`, new: `	case false:`, tests: "integration.TestErrorsAboutAnotherMachinesFlows",
	}, {
		row: "H8", defect: "one from a segment is dropped", file: "vnicbridge/internal/userspace/strangeerror.go",
		old: `		way = fw.clientBehind`, new: `		return nil, packet.Tuple{}`,
	}, {
		row: "H8", defect: "its quote is not translated", file: "vnicbridge/internal/userspace/strangeerror.go",
		old: `	a.RewriteQuote(quoted, tuple.Reversed(), 0)`, new: ``,
	}, {
		row: "H8", defect: "it reaches another client's flow", file: "vnicbridge/internal/userspace/strangeerror.go",
		old: `Iface: to.Index}); other != nil {`, new: `Iface: to.Index}); other != nil && false {`,
	}, {
		row: "H8", defect: "it is carried although the segment is not certain", file: "vnicbridge/internal/userspace/strangeerror.go",
		old: `	to, lasting := bridge.Decisions.Lasting(client)
	if !lasting || to`, new: `	to, _ := bridge.Decisions.Decide(client)
	if to`,
	}, {
		row: "H8", defect: "it is about a closed port", file: "vnicbridge/internal/userspace/strangeerror.go",
		old: ` || !fw.enters(rules.Segments[to], to, &packet.Packet{Tuple: client})`, new: ``,
	}, {
		row: "H8", defect: "a packet that the bridge has not sent may be quoted", file: "vnicbridge/internal/userspace/strangeerror.go",
		old: ` || client.Dst != nic.NIC.Address`, new: ``,
	}, {
		row: "H9", defect: "a bridge that is announced answers on the link", file: "vnicbridge/roles.go",
		old: `	b.setRouted(true)
	p.setStandby(b, 0)
	for _, link := range b.eachLink() {
		link.StandBy()
	}`, new: `	b.setRouted(true)
	p.setStandby(b, 0)`, tests: "vnicbridge.TestReloadsOfAnnounce",
	}, {
		row: "H9", defect: "it asks for its gateway in the name of the address", file: "vnicbridge/roles.go",
		old: `	b.setRouted(true)`, new: `	b.setRouted(false)`, tests: "vnicbridge.TestAnnouncedIsNotOnTheLink",
	}, {
		row: "H9", defect: "the route is there although the bridge is not fit", file: "vnicbridge/voice.go",
		old: `m.Announce(r.table, own.Addr(), fit)`, new: `m.Announce(r.table, own.Addr(), true)`, tests: "vnicbridge.TestAnnouncedWhileFit",
	}, {
		row: "H9", defect: "a reload leaves the route in the table from before", file: "vnicbridge/roles.go",
		old: `		if voice != r.voice {`, new: `		if voice == nil {`, tests: "vnicbridge.TestReloadsOfAnnounce",
	}, {
		row: "H9", defect: "what a killed process has left stays", file: "vnicbridge/internal/host/announcedroute_linux.go",
		old: `ignoreMissing(m.NS.Netlink.RouteDel(route))`, new: `ignoreMissing(nil)`, tests: "integration.TestLeftAnnouncement",
	}, {
		row: "H9", defect: "a successor answers on the link", file: "vnicbridge/rolessaved.go",
		old: `			p.beRouted(r.bridge) // also its inherited links`, new: ``, tests: "integration.TestAnnouncementByReload",
	}, {
		row: "H11", defect: "a bridge that is drained takes no new flows", file: "vnicbridge/roles.go",
		old: `		r.drained = drained`, new: `		r.drained = drained
		p.setStandby(r.bridge, 1)`, tests: "vnicbridge.TestDrainedBridge",
	}, {
		row: "H11", defect: "the machine that takes over resets the connections", file: "vnicbridge/internal/userspace/admit.go",
		old: `if !a.Begins() && !(lasting && a.Continues()) {`, new: `if _ = lasting; !a.Begins() {`, tests: "integration.TestDrainUnderLoad",
	}, {
		row: "H7", defect: "a datagram of the server's opens no flow", file: "vnicbridge/internal/packet/packet.go",
		old: `	return p.Proto == config.UDP || !p.IsEchoRequest()`, new: `	return p.Proto != config.UDP && !p.IsEchoRequest()`, tests: "vnicbridge.TestAnswersOfFlowsElsewhere",
	}, {
		row: "H12", defect: "an answer opens no flow", file: "vnicbridge/internal/userspace/pickup.go",
		old: `	shared := a.In.VNIC.Remote && a.Answers()`, new: `	shared := false`, tests: "vnicbridge.TestAnswersOfFlowsElsewhere",
	}, {
		row: "H12", defect: "an answer leaves although nobody else has its flow", file: "vnicbridge/internal/userspace/pickup.go",
		old: `sharedOnly && !bridge.Shared || nic.StandsBy()`, new: `nic.StandsBy()`, tests: "vnicbridge.TestWhatIsNoAnswerStaysInside",
	}, {
		row: "H12", defect: "machines have one MAC behind a device at the same time", file: "vnicbridge/apply.go",
		old: `	if announced && !s.Aliases.IsZero() {`, new: `	if _ = announced; false {`, tests: "vnicbridge.TestMACsBehindADevice",
	}, {
		row: "H10", defect: "the server's address is answered for", file: "vnicbridge/internal/link/server.go",
		old: `	return a != s.vnic.VNIC.Address && !aliases.IsZero()`, new: `	return !aliases.IsZero()`,
	}, {
		row: "H10", defect: "no IPv6 alias is answered for", file: "vnicbridge/internal/link/server.go",
		old: `	if !s.isAlias(m.Target) || !m.senderOf(f).IsUnicast() {`, new: `	if true {`,
	}, {
		row: "H10", defect: "a frame of another machine with the same MAC is answered", file: "vnicbridge/internal/link/server.go",
		old: `	case f.SrcMAC() == mac || f.SrcMAC() == own:`, new: `	case f.SrcMAC() == own:`,
	}, {
		row: "H10", defect: "the server is asked for from no address", file: "vnicbridge/internal/link/server.go",
		old: `		return packet.AddrOf(s.aliases.Load().First)`, new: `		return packet.NoAddr`,
	}, {
		row: "H10", defect: "any host there speaks for the server", file: "vnicbridge/internal/userspace/forwarder.go",
		old: `	return f.SrcMAC() == server`, new: `	return f.SrcMAC() == server || true`,
	}, {
		row: "H10", defect: "any host there speaks for the server", file: "vnicbridge/internal/bpf/remote.h",
		old: `	return count_drop_at(iface, skb->len, DROP_SOURCE);`, new: `	return KEEP;`,
	}, {
		row: "H10", defect: "frames to other hosts are carried", file: "vnicbridge/internal/userspace/forwarder.go",
		old: `	} else if link != nil && a.Frame.DstMAC() != a.In.MAC() {`, new: `	} else if false {`,
	}, {
		row: "H10", defect: "the sender's MAC leaves by the device", file: "vnicbridge/internal/bpf/packet.h",
		old: `	if (out->linked)`, new: `	if (out->nic)`,
	}, {
		row: "H10", defect: "the device's MTU is not told", file: "vnicbridge/internal/iface/iface.go",
		old: `	if !p.HasLink() {
		return 0`, new: `	if p.NIC == nil {
		return 0`,
	}, {
		row: "H10", defect: "a segment whose device is down gets flows", file: "vnicbridge/remote.go",
		old: `	s.down = !state.Up`, new: `	s.down = false`,
	}, {
		row: "H10", defect: "a silent server gets flows", file: "vnicbridge/remote.go",
		old: `		if !server.GatewaySilent() {`, new: `		if !server.GatewaySilent() || true {`,
	}, {
		row: "H10", defect: "the host acts on what comes out of the device", file: "vnicbridge/apply.go",
		old: `Away: s.spec.Netns != "" || s.spec.Remote`, new: `Away: s.spec.Netns != ""`, tests: "integration.TestRemoteSegmentIsApart",
	}, {
		row: "H10", defect: "a device becomes promiscuous", file: "vnicbridge/internal/host/remotedevice_linux.go",
		old: `		if d.promiscuity(link) > before {`, new: `		if false && d.promiscuity(link) > before {`, tests: "integration.TestOtherDevices",
	}, {
		row: "H10", defect: "a device that is down stays down", file: "vnicbridge/internal/host/remotedevice_linux.go",
		old: `	if err != nil || link.Attrs().RawFlags&unix.IFF_UP != 0 {`, new: `	if true {`, tests: "integration.TestRemoteSegment",
	}, {
		row: "H10", defect: "checks go to the server's own address", file: "vnicbridge/verdicts.go",
		old: `		server.Host, _ = p.cfg.AnyPeerAlias(h.From, name)`, new: ``, tests: "integration.TestHealthBehindADevice",
	}, {
		row: "H10", defect: "a successor does not know the server", file: "vnicbridge/successor.go",
		old: `			server.Inherit(s.Links[familyKey(segmentKey(name), f)])`, new: `			_, _, _ = server, f, name`, tests: "integration.TestUpgradeWithADevice",
	},
}
