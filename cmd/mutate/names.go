package main

// byName are the defects of rows N1 to N12.
var byName = []mutation{
	{
		row: "N1", defect: "a wildcard comes before a name that is written out", file: "vnicbridge/internal/names/set.go",
		old: `	if value, ok = s.hosts[name]; ok {`, new: `	if value, ok = s.hosts[name]; ok && len(s.wildcards) == 0 {`, tests: "names.TestSet",
	}, {
		row: "N1", defect: "any rule with names matches", file: "vnicbridge/internal/rules/decision.go",
		old: `		_, exact, ok := r.Names.Find(name)`, new: `		exact, ok := true, true`, tests: "rules.TestDecideNamed integration.TestSegmentsByName",
	}, {
		row: "N1", defect: "the programs do not ask for the name", file: "vnicbridge/internal/bpf/decide.h",
		old: `return t->steer[i].named ? BY_NAME : t->steer[i].segment | LASTING;`, new: `return t->steer[i].segment | LASTING;`, tests: "vnicbridge.TestANameChoosesTheSegment",
	}, {
		row: "N1", defect: "of several segments the first one gets all flows", file: "vnicbridge/internal/rules/decision.go",
		old: `		return r.Choice.balance(flow)`, new: `		return r.Choice.Slots[0]`, tests: "vnicbridge.TestSeveralSegmentsForAName",
	}, {
		row: "N2", defect: "only the first segment of a hello is read", file: "vnicbridge/internal/userspace/greeting.go",
		old: `			stream = append(stream, s.data[known:]...)`, new: `			stream = append(stream[:0], s.data[known:]...)`, tests: "vnicbridge.TestANameInPieces",
	}, {
		row: "N3", defect: "a client that names nothing is held for ever", file: "vnicbridge/internal/userspace/greeting.go",
		old: `	GreetingTime = 5 * time.Second`, new: `	GreetingTime = 5 * time.Hour`, tests: "vnicbridge.TestNoNameComes",
	}, {
		row: "N3", defect: "a damaged segment chooses a segment", file: "vnicbridge/internal/userspace/greeting.go",
		old: `!a.Frame.ChecksumVerified() && !a.ValidTCP()`, new: `false`, tests: "vnicbridge.TestDamagedGreetings",
	}, {
		row: "N4", defect: "a client that ends waits for its time", file: "vnicbridge/internal/userspace/greeting.go",
		old: `	return said{c, stream, ended || len(c.held) >= heldPackets}, packet.Keep, true`, new: `	return said{c, stream, ended && len(c.held) >= heldPackets}, packet.Keep, true`, tests: "vnicbridge.TestAFINEndsAGreeting",
	}, {
		row: "N5", defect: "acknowledgments are not translated", file: "vnicbridge/internal/packet/shift.go",
		old: `		add(header[8:], -s.Seq)`, new: ``, tests: "vnicbridge.TestNumbersOfNamedFlows",
	}, {
		row: "N5", defect: "acknowledgments are not translated", file: "vnicbridge/internal/bpf/shift.h",
		old: `	words[WORD_ACK] = plus(words[WORD_ACK], -s->seq);`, new: ``, tests: "vnicbridge.TestNumbersOfNamedFlows",
	}, {
		row: "N5", defect: "selective acknowledgments are not translated", file: "vnicbridge/internal/bpf/shift.h",
		old: `			words[at + 1 + i] = plus(words[at + 1 + i], n);`, new: `			words[at + 1 + i] = plus(words[at + 1 + i], 0);`, tests: "vnicbridge.TestNumbersOfNamedFlows",
	}, {
		row: "N5", defect: "windows are not translated", file: "vnicbridge/internal/bpf/shift.h",
		old: `	window = shift_window(p->window, dir == FORWARD ? s->to_server : s->to_client);`, new: `	window = p->window;`, tests: "vnicbridge.TestNumbersOfNamedFlows",
	}, {
		row: "N5", defect: "the server gets options that the bridge has declined", file: "vnicbridge/internal/userspace/greetserver.go",
		old: `		a.Decline(c.toServer, frame.ChecksumUnfinished())`, new: ``, tests: "vnicbridge.TestTheServerGetsTheClientsSYN",
	}, {
		row: "N5", defect: "clients are offered what servers refuse", file: "vnicbridge/internal/userspace/refusals.go",
		old: `		now.times = !accepts.Timed`, new: ``, tests: "vnicbridge.TestServersThatRefuseOptions",
	}, {
		row: "N6", defect: "a SYN that comes again gets another number", file: "vnicbridge/internal/userspace/greeting.go",
		old: `	if c != nil && (c.first != a.Seq() || c.in != a.In) {`, new: `	if c != nil {`, tests: "vnicbridge.TestARepeatedSYN",
	}, {
		row: "N7", defect: "a silent server gets the SYN once", file: "vnicbridge/internal/userspace/greetserver.go",
		old: `	case waited >= retryAfter(c.tries):`, new: `	case false:`, tests: "vnicbridge.TestASilentServer",
	}, {
		row: "N7", defect: "the client of a server that refuses waits", file: "vnicbridge/internal/userspace/greetserver.go",
		old: `		fw.observe(a, fl, flow.Reverse)
		fw.refuseGreeting(c, a.Out, a.Now)`, new: `		fw.observe(a, fl, flow.Reverse)`, tests: "vnicbridge.TestAServerThatRefusesAName",
	}, {
		row: "N8", defect: "greetings grow without bound", file: "vnicbridge/internal/userspace/greetings.go",
		old: `		if len(g.known) <= MaxGreetings && g.held <= MaxHeld {`, new: `		if true {`, tests: "vnicbridge.TestGreetingsAreBounded",
	}, {
		row: "N8", defect: "anybody can guess a cookie", file: "vnicbridge/internal/userspace/syncookie.go",
		old: `	if number != cookie(a, hashes, first, period, data) && number != cookie(a, hashes, first, period-1, data) {`, new: `	if data > 1<<8 && period > 0 {`, tests: "vnicbridge.TestAFloodOfGreetings vnicbridge.TestSYNCookies",
	}, {
		row: "N8", defect: "half hellos reach the servers as fast as they come", file: "vnicbridge/internal/userspace/unnamed.go",
		old: `	if g.unnamedUsed-now >= unnamedBurst*int64(unnamedCost) {`, new: `	if false {`, tests: "vnicbridge.TestHalfHellosGoOnSlowly",
	}, {
		row: "N8", defect: "half hellos go on all at a tick", file: "vnicbridge/internal/userspace/greeting.go",
		old: `	fw.takeTurns(a.Out, a.Now)`, new: ``, tests: "vnicbridge.TestHalfHellosGoOnSlowly",
	}, {
		row: "N8", defect: "all silent clients get a SYN-ACK again at a tick", file: "vnicbridge/internal/userspace/greetserver.go",
		old: `const answersAgain = 64`, new: `const answersAgain = 1 << 20`, tests: "vnicbridge.TestHowManySYNsAreKept",
	}, {
		row: "N8", defect: "the programs answer no SYN", file: "vnicbridge/internal/bpf/admit.h",
		old: `	return p->next == p->seq + 1 ? COOKIE : DROP_OVERLOAD;`, new: `	return SLOW;`, tests: "vnicbridge.TestWhoAnswersAFlood",
	}, {
		row: "N8", defect: "the programs leave to userspace what clients repeat", file: "vnicbridge/internal/bpf/admit.h",
		old: `	return p->seq - h->from <= length && p->next - h->from <= length;`, new: `	return length == ~0U;`, tests: "vnicbridge.TestARepeatedHalfHello",
	}, {
		row: "N8", defect: "what a client repeats in other pieces counts as more packets", file: "vnicbridge/internal/userspace/greeting.go",
		old: `len(c.held) > 0 && !ends && end <= c.inOrder {`, new: `len(c.held) > 1<<20 && !ends && end <= c.inOrder {`, tests: "vnicbridge.TestARepeatedHalfHello",
	}, {
		row: "N8", defect: "the programs keep back what a forgotten client repeats", file: "vnicbridge/internal/userspace/greetings.go",
		old: `	g.release(c.key)`, new: ``, tests: "vnicbridge.TestAForgottenHalfHelloComesAgain",
	}, {
		row: "N9", defect: "a change of the data path loses the shift", file: "vnicbridge/internal/flow/flow.go",
		old: `		f.shift.store(other.shift.load())`, new: `		f.shift.store(packet.Shift{})`, tests: "vnicbridge.TestNamedFlowsMove",
	}, {
		row: "N9", defect: "greeted clients wait for rules that a reload has taken away", file: "vnicbridge/internal/userspace/greetserver.go",
		old: `	return bridge == nil || bridge.Decisions.NeedsName(c.key.Tuple)`, new: `	return bridge == nil || c != nil`, tests: "vnicbridge.TestGreetingsOutliveTheNames",
	}, {
		row: "N10", defect: "a client behind a rebinding NAT is not found again", file: "vnicbridge/internal/userspace/greetdatagram.go",
		old: `known && rules.Segments[server.vnic] != nil {`, new: `known && rules.Segments[server.vnic] == nil {`, tests: "integration.TestQUICClientBehindARebindingNAT",
	}, {
		row: "N10", defect: "the programs keep a server's connection id from userspace", file: "vnicbridge/internal/bpf/bridge.c",
		old: `	if (f->dir == BACKWARD && (bpf_skb_load_bytes`, new: `	if (f->dir == 2 && (bpf_skb_load_bytes`, tests: "integration.TestQUICClientBehindARebindingNAT",
	}, {
		row: "N11", defect: "`steer sites` stands for no rule", file: "vnicbridge/config/sites.go",
		old: `		if i := b.steersSites(); i >= 0 {`, new: `		if i := b.steersSites(); i > len(b.Steer) {`, tests: "integration.TestSteerSites",
	}, {
		row: "N12", defect: "status does not show the rules of sites", file: "vnicbridge/config/sites.go",
		old: `		c.Bridges[name].Steer = rules`, new: `		c.Bridges[name].Steer = rules[:1]`, tests: "integration.TestSteerSites",
	}, {
		row: "N12", defect: "after a reload flows tell another rule", file: "vnicbridge/internal/rules/labels.go",
		old: `	number, ok := before.numbers[label]`, new: `	number, ok := before.numbers[""]`, tests: "vnicbridge.TestFlowsTellTheirRule",
	}, {
		row: "N12", defect: "a change of the data path loses the rule", file: "vnicbridge/internal/flow/flow.go",
		old: `		f.shift.rule().Store(other.shift.rule().Load())`, new: ``, tests: "vnicbridge.TestFlowsTellTheirRule",
	},
}
