package vnicbridge

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Timing and bounds of next-hop resolution. The times are those of Linux's
// neighbour table (base_reachable_time, retrans_timer, ucast_solicit, locktime).
const (
	reachableTime   = 30 * time.Second // how long a MAC is used before the host is asked again
	askInterval     = time.Second      // between two questions for the same host
	maxAsks         = 3                // without an answer, before the waiting frames are dropped
	maxWaiting      = 16               // frames that wait for one host
	maxWaitingBytes = 8 << 20          // of the frames that wait for all hosts of a link
	unicastAsks     = 3                // a known host is asked directly first
	forgetNeighbour = 10 * time.Minute // how long a host is remembered that is not heard of
	gatewayWait     = time.Second      // for the gateway's first answer, at the start
	lockTime        = time.Second      // a host's MAC changes at most once in this time
)

// Every host on the link gets a broadcast question, and a forged source address causes
// one. Questions for flows that segments open have a separate budget.
const (
	broadcastRate  = 512 // a second
	broadcastBurst = 1024
)

// neighbours resolves the next hops on a NIC's link by ARP from the pseudo address (A7).
// The host's own table cannot serve, because the host has no address on the link.
type neighbours struct {
	link    netip.Prefix
	ask     func(target addr, to MAC) // sends an ARP request, to a host or to all
	send    func([]frame)             // sends frames that have waited
	gaveUp  func(frames int)          // counts frames that nobody will get
	learned func(macChange)           // called, unlocked, when a MAC is new or has changed

	// publish is called, unlocked, to tell the data path which MAC a host has. A zero MAC
	// means that no frames go to the host.
	publish func(host addr, mac MAC, gateway bool)
	// sentByKernel visits the hosts to which the kernel data path has sent frames,
	// with the time of the last one.
	sentByKernel func(visit func(host addr, at int64))

	publishing sync.Mutex // held while publish is called; taken before mu
	mu         sync.RWMutex
	gateway    netip.Addr // not valid: there is none
	table      neighbourTable
	waiting    int              // bytes of frames
	surveyed   int64            // when sentByKernel was last called
	broadcasts [2]*rate.Limiter // of questions: for answers to clients, for segments' own flows
}

func newNeighbours(link netip.Prefix) *neighbours {
	n := &neighbours{link: link, table: newNeighbourTable()}
	for i := range n.broadcasts {
		n.broadcasts[i] = rate.NewLimiter(broadcastRate, broadcastBurst)
	}
	return n
}

// macChange is a host's new MAC.
type macChange struct {
	host     netip.Addr
	from, to MAC // from is zero when the host was unknown
	gateway  bool
}

// setGateway names the router of the link, or none.
func (n *neighbours) setGateway(gateway netip.Addr) {
	n.mu.Lock()
	before := n.gateway
	n.gateway = gateway
	n.mu.Unlock()
	for _, host := range []netip.Addr{before, gateway} {
		if host.IsValid() {
			n.tell([]addr{addrOf(host)})
		}
	}
}

// tell publishes what is true of hosts now. If two goroutines tell of one host, the later
// one has the last word.
func (n *neighbours) tell(hosts []addr) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	for _, host := range hosts {
		var mac MAC
		n.mu.RLock()
		if e := n.table.entries[host]; e != nil && e.part() == partUsed {
			mac = e.mac
		}
		gateway := n.isGateway(host)
		n.mu.RUnlock()
		n.publish(host, mac, gateway)
	}
}

// tellAll publishes all hosts that frames go to, for a data path that is new.
func (n *neighbours) tellAll() {
	n.mu.RLock()
	var hosts []addr
	for host, e := range n.table.entries {
		if e.part() == partUsed {
			hosts = append(hosts, host)
		}
	}
	if n.gateway.IsValid() {
		hosts = append(hosts, addrOf(n.gateway))
	}
	n.mu.RUnlock()
	n.tell(hosts)
}

// nextHop is the host on the link by which a destination is reached.
func (n *neighbours) nextHop(dst netip.Addr) (netip.Addr, bool) {
	if n.link.Contains(dst) {
		return dst, true
	}
	return n.gateway, n.gateway.IsValid()
}

// forward gives a frame for a destination its next hop's MAC. own says that the
// frame is of a flow that a segment has opened. A false ready means that the frame
// is not sent now: it waits for an answer, or the verdict says why it never will be.
func (n *neighbours) forward(f *frame, dst addr, own bool, now int64) (ready bool, verdict dropReason) {
	n.mu.RLock()
	hop, ok := n.nextHop(dst.netip())
	if !ok {
		n.mu.RUnlock()
		return false, dropUnresolved
	}
	key := addrOf(hop)
	e := n.table.entries[key]
	serves := e != nil && e.part() == partUsed && now-e.confirmed < int64(reachableTime)
	if serves {
		e.use(now)
		copy(f.eth(), e.mac[:])
	}
	n.mu.RUnlock()
	if serves {
		return true, keep
	}
	return n.resolve(f, key, own, now)
}

// resolve sends to a next hop for the first time, or asks for one that is unknown
// or has not been heard of lately.
func (n *neighbours) resolve(f *frame, key addr, own bool, now int64) (ready bool, verdict dropReason) {
	var changed []addr
	defer func() { n.tell(changed) }()
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.table.entries[key]
	if e == nil {
		changed = n.makeRoom(partResolving)
		e = n.table.add(key, now)
	}
	e.own = e.own || own
	if e.mac.IsZero() || now-e.confirmed >= int64(reachableTime) {
		n.askAgain(key, e, now)
	}
	if !e.mac.IsZero() {
		if e.part() != partUsed {
			changed = append(n.makeRoom(partUsed), key)
		}
		n.table.used(e, now)
		copy(f.eth(), e.mac[:])
		return true, keep
	}
	if len(e.waiting) >= maxWaiting || n.waiting+len(f.data) > maxWaitingBytes {
		return false, dropUnresolved
	}
	n.waiting += len(f.data)
	e.waiting = append(e.waiting, frame{data: slices.Clone(f.data)})
	return false, keep
}

// makeRoom removes entries from a part of the table, if the part is full. It returns those
// that had been published.
func (n *neighbours) makeRoom(p neighbourPart) (published []addr) {
	for _, key := range n.table.idlest(p, n.isGateway) {
		if n.remove(key) {
			published = append(published, key)
		}
	}
	return published
}

func (n *neighbours) isGateway(host addr) bool {
	return n.gateway.IsValid() && host == addrOf(n.gateway)
}

// remove forgets a host and the frames that wait for it. It tells whether the host
// had been published.
func (n *neighbours) remove(key addr) (published bool) {
	e := n.table.remove(key)
	n.gaveUp(len(n.release(e)))
	return e.part() == partUsed
}

// release takes the frames that wait for a host.
func (n *neighbours) release(e *neighbour) []frame {
	frames := e.waiting
	e.waiting = nil
	for _, f := range frames {
		n.waiting -= len(f.data)
	}
	return frames
}

// askAgain asks for a host, at most once in askInterval: a known host directly at
// first, then everybody, within the budget of broadcasts. The gateway is asked for
// whatever the budget says.
func (n *neighbours) askAgain(key addr, e *neighbour, now int64) {
	if e.asks > 0 && now-e.asked < int64(askInterval) {
		return
	}
	to := broadcastMAC
	if !e.mac.IsZero() && e.asks < unicastAsks && !e.contested {
		to = e.mac
	}
	if to == broadcastMAC && !n.isGateway(key) {
		budget := n.broadcasts[0]
		if e.own {
			budget = n.broadcasts[1]
		}
		if !budget.AllowN(time.Unix(0, now), 1) {
			return // tick tries again
		}
	}
	e.asked = now
	e.asks++
	n.ask(key, to)
}

// hear takes in that a host has a MAC. If nobody asked for the host, it is remembered only
// if it asked for us.
func (n *neighbours) hear(host addr, mac MAC, turnedToUs bool, now int64) {
	n.mu.Lock()
	change, waiting, changed := n.learn(host, mac, turnedToUs, now)
	n.mu.Unlock()
	n.tell(changed)
	if change.from != change.to {
		n.learned(change)
	}
	for _, f := range waiting {
		copy(f.eth(), mac[:])
	}
	if len(waiting) > 0 {
		n.send(waiting)
	}
}

func (n *neighbours) learn(host addr, mac MAC, turnedToUs bool, now int64) (change macChange, waiting []frame, changed []addr) {
	ip := host.netip()
	if !mac.IsUnicast() || !n.link.Contains(ip) && ip != n.gateway {
		return change, nil, nil
	}
	e := n.table.entries[host]
	switch {
	case e == nil && !turnedToUs:
		return change, nil, nil
	case e == nil:
		changed = n.makeRoom(partHeard)
		e = n.table.add(host, now)
	case !e.mac.IsZero() && mac != e.mac && now-e.changed < int64(lockTime):
		e.contested = true // once that time is over, tick asks who has the address
		return change, nil, nil
	}
	change = macChange{ip, e.mac, mac, ip == n.gateway}
	waiting = n.release(e)
	n.table.resolved(e, mac, now)
	if e.part() != partUsed && (len(waiting) > 0 || change.gateway) {
		changed = append(changed, n.makeRoom(partUsed)...)
		n.table.used(e, now)
	}
	if change.from != mac && e.part() == partUsed {
		changed = append(changed, host)
	}
	return change, waiting, changed
}

// sendsTo tells whether frames go to a host. To the gateway they do even before its MAC
// is known.
func (n *neighbours) sendsTo(host addr) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	e := n.table.entries[host]
	return e != nil && e.part() == partUsed || n.isGateway(host)
}

// surveyInterval is how often the kernel data path is asked where it sent frames.
const surveyInterval = time.Second

// tick keeps the gateway resolved. It asks again for the hosts for which frames wait or to
// which frames went lately, and forgets the hosts that do not answer.
func (n *neighbours) tick(now int64) {
	var changed []addr
	n.mu.Lock()
	if n.gateway.IsValid() {
		n.refreshGateway(now)
	}
	survey := now-n.surveyed >= int64(surveyInterval)
	if survey {
		n.surveyed = now
	}
	n.mu.Unlock()
	if survey {
		n.sentByKernel(n.noteUse)
	}
	n.mu.Lock()
	for key, e := range n.table.entries {
		if !n.isGateway(key) && n.review(key, e, now) {
			changed = append(changed, key)
		}
	}
	n.mu.Unlock()
	n.tell(changed)
}

func (n *neighbours) refreshGateway(now int64) {
	key := addrOf(n.gateway)
	e := n.table.entries[key]
	if e == nil {
		e = n.table.add(key, now)
	}
	switch {
	case e.contested && now-e.changed >= int64(lockTime), e.mac.IsZero(), now-e.confirmed >= int64(reachableTime):
		n.askAgain(key, e, now)
	}
	if e.mac.IsZero() && now-e.made >= int64(maxAsks*askInterval) {
		n.gaveUp(len(n.release(e)))
		e.made = now
	}
}

// noteUse takes in when the kernel data path last sent to a host.
func (n *neighbours) noteUse(host addr, at int64) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if e := n.table.entries[host]; e != nil && e.part() == partUsed && at > e.lastUse.Load() {
		e.lastUse.Store(at)
	}
}

// review asks for a host again or forgets it, if it is time to. It tells whether a host
// that had been published is forgotten.
func (n *neighbours) review(key addr, e *neighbour, now int64) (forgotten bool) {
	switch {
	case e.mac.IsZero() && now-e.made >= int64(maxAsks*askInterval), now-e.confirmed >= int64(forgetNeighbour) && !e.mac.IsZero():
		return n.remove(key)
	case e.mac.IsZero(), e.contested && now-e.changed >= int64(lockTime):
		n.askAgain(key, e, now)
	case now-e.confirmed >= int64(reachableTime) && e.part() == partUsed && now-e.lastUse.Load() <= int64(2*surveyInterval):
		n.askAgain(key, e, now)
	}
	return false
}

// awaitGateway asks for the gateway and waits for the answer, at most gatewayWait. It tells
// whether the gateway has answered, or there is none.
func (n *neighbours) awaitGateway(now func() int64) bool {
	n.mu.RLock()
	gateway := n.gateway
	n.mu.RUnlock()
	if !gateway.IsValid() {
		return true
	}
	n.tick(now())
	const pause = 5 * time.Millisecond
	for waited := time.Duration(0); waited < gatewayWait; waited += pause {
		if _, ok := n.lookup(gateway); ok {
			return true
		}
		time.Sleep(pause)
	}
	return false
}

// router returns the gateway and its MAC, as far as they are known.
func (n *neighbours) router() (gateway addr, mac MAC) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.gateway.IsValid() {
		return noAddr, mac
	}
	gateway = addrOf(n.gateway)
	if e := n.table.entries[gateway]; e != nil {
		mac = e.mac
	}
	return gateway, mac
}

// lookup returns a host's MAC, if it is known.
func (n *neighbours) lookup(host netip.Addr) (MAC, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	e := n.table.entries[addrOf(host)]
	if e == nil || e.mac.IsZero() {
		return MAC{}, false
	}
	return e.mac, true
}
