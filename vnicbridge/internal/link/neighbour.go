package link

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Timing and bounds of next-hop resolution. The times are those of Linux's
// neighbour table (base_reachable_time, retrans_timer, ucast_solicit, locktime).
const (
	ReachableTime   = 30 * time.Second // how long a MAC is used before the host is asked again
	askInterval     = time.Second      // between two requests for the same host
	maxAsks         = 3                // requests without an answer before waiting frames are dropped
	maxWaiting      = 16               // frames that wait for one host; further ones are dropped
	MaxWaitingBytes = 8 << 20          // bytes of frames that wait on a link; further ones are dropped
	unicastAsks     = 3                // requests to a known MAC before a broadcast
	forgetNeighbour = 10 * time.Minute // how long a silent host is remembered
	gatewayWait     = time.Second      // how long a start waits for the gateway's first answer
	LockTime        = time.Second      // a host's MAC changes at most once in this time
)

// Broadcast requests are rate-limited, because every host on the link gets them, and
// anybody can cause them with forged source addresses. Those for flows that segments open
// have a rate limit of their own.
const (
	BroadcastRate  = 512 // a second
	BroadcastBurst = 1024
)

// Neighbours resolves the next hops on a NIC's link by ARP or NDP from the pseudo address
// (A7). The host's own neighbour table cannot do so, because the host has no address on the
// link.
type Neighbours struct {
	link netip.Prefix

	// Ask sends an ARP request or a Neighbor Solicitation: to a host's MAC, or to all if the
	// MAC is BroadcastMAC.
	Ask     func(target packet.Addr, to config.MAC)
	send    func([]packet.Frame) // sends frames that have waited
	GaveUp  func(frames int)     // counts frames that are dropped unresolved
	Learned func(MACChange)      // called without locks when a MAC is new or changed

	// Publish tells the data path which MAC a host has. A zero MAC means that no frames go
	// to the host. It is called with `publishing` held, but without Mu.
	Publish func(host packet.Addr, mac config.MAC, gateway bool)
	// Unreachable is told of the first frame that waited for a host that does not answer. It
	// is called by Tick, without locks. Nil: nobody is told.
	Unreachable func(packet.Frame)
	// SentByKernel visits the hosts to which the kernel path has sent frames, with the time
	// of the last frame.
	SentByKernel func(visit func(host packet.Addr, at int64))

	publishing lockorder.Mutex[lockorder.Publishing] // held while Publish runs; taken before Mu
	Mu         lockorder.RWMutex[lockorder.NextHops] // guards what follows
	Gateway    netip.Addr                            // invalid if there is none
	Table      neighbourTable
	Waiting    int              // bytes of the frames that wait
	givenUp    []packet.Frame   // of which Unreachable is to be told
	surveyed   int64            // when SentByKernel was last called, in ns
	broadcasts [2]*rate.Limiter // of requests: for answers to clients, for segments' own flows
}

// NewNeighbours returns an empty table for a link with the given network. The caller sets
// the functions.
func NewNeighbours(link netip.Prefix) *Neighbours {
	n := &Neighbours{link: link, Table: NewNeighbourTable()}
	for i := range n.broadcasts {
		n.broadcasts[i] = rate.NewLimiter(BroadcastRate, BroadcastBurst)
	}
	return n
}

// MACChange tells that a host's MAC is new or has changed.
type MACChange struct {
	Host     netip.Addr
	From, To config.MAC // From is zero if the host was unknown
	Gateway  bool       // the host is the gateway
}

// SetGateway sets the gateway of the link. An invalid address means that there is none.
func (n *Neighbours) SetGateway(gateway netip.Addr) {
	n.Mu.Lock()
	before := n.Gateway
	n.Gateway = gateway
	n.Mu.Unlock()
	for _, host := range []netip.Addr{before, gateway} {
		if host.IsValid() {
			n.Tell([]packet.Addr{packet.AddrOf(host)})
		}
	}
}

// Tell publishes the current MACs of hosts. If two goroutines tell of the same host, the
// data path keeps the newer state, because `publishing` orders them.
func (n *Neighbours) Tell(hosts []packet.Addr) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	for _, host := range hosts {
		var mac config.MAC
		n.Mu.RLock()
		if e := n.Table.Entries[host]; e != nil && e.Part() == PartUsed {
			mac = e.MAC
		}
		gateway := n.isGateway(host)
		n.Mu.RUnlock()
		n.Publish(host, mac, gateway)
	}
}

// TellAll publishes all hosts to which frames go. A new kernel path needs this.
func (n *Neighbours) TellAll() {
	n.Mu.RLock()
	var hosts []packet.Addr
	for host, e := range n.Table.Entries {
		if e.Part() == PartUsed {
			hosts = append(hosts, host)
		}
	}
	if n.Gateway.IsValid() {
		hosts = append(hosts, packet.AddrOf(n.Gateway))
	}
	n.Mu.RUnlock()
	n.Tell(hosts)
}

// onLink tells whether a host with an address is on the link. A link-local address of IPv6
// always is. One of IPv4 (RFC 3927) is an address like others.
func (n *Neighbours) onLink(a netip.Addr) bool {
	return n.link.Contains(a) || a.Is6() && a.IsLinkLocalUnicast()
}

// nextHop returns the host on the link to which frames for a destination go.
func (n *Neighbours) nextHop(dst netip.Addr) (netip.Addr, bool) {
	if n.onLink(dst) {
		return dst, true
	}
	return n.Gateway, n.Gateway.IsValid()
}

// Forward writes the next hop's MAC into a frame: see [iface.Link].
func (n *Neighbours) Forward(f *packet.Frame, dst packet.Addr, own bool, now int64) (ready bool, verdict packet.DropReason) {
	n.Mu.RLock()
	hop, ok := n.nextHop(dst.Netip())
	if !ok {
		n.Mu.RUnlock()
		return false, packet.DropUnresolved
	}
	key := packet.AddrOf(hop)
	e := n.Table.Entries[key]
	serves := e != nil && e.Part() == PartUsed && now-e.confirmed < int64(ReachableTime)
	if serves {
		e.use(now)
		copy(f.Eth(), e.MAC[:])
	}
	n.Mu.RUnlock()
	if serves {
		return true, packet.Keep
	}
	return n.resolve(f, key, own, now)
}

// resolve is the slow path of Forward: the next hop is unknown, no frame has gone there yet,
// or its MAC was confirmed longer than ReachableTime ago.
func (n *Neighbours) resolve(f *packet.Frame, key packet.Addr, own bool, now int64) (ready bool, verdict packet.DropReason) {
	var changed []packet.Addr
	defer func() { n.Tell(changed) }()
	n.Mu.Lock()
	defer n.Mu.Unlock()
	e := n.Table.Entries[key]
	if e == nil {
		changed = n.makeRoom(PartResolving)
		e = n.Table.add(key, now)
	}
	e.own = e.own || own
	if e.MAC.IsZero() || now-e.confirmed >= int64(ReachableTime) {
		n.askAgain(key, e, now)
	}
	if !e.MAC.IsZero() {
		if e.Part() != PartUsed {
			changed = append(n.makeRoom(PartUsed), key)
		}
		n.Table.used(e, now)
		copy(f.Eth(), e.MAC[:])
		return true, packet.Keep
	}
	if len(e.waiting) >= maxWaiting || n.Waiting+len(f.Data) > MaxWaitingBytes {
		return false, packet.DropUnresolved
	}
	n.Waiting += len(f.Data)
	e.waiting = append(e.waiting, packet.Frame{Data: slices.Clone(f.Data)})
	return false, packet.Keep
}

// makeRoom evicts entries from a part of the table, if the part is full. It returns those
// that had been published.
func (n *Neighbours) makeRoom(p NeighbourPart) (published []packet.Addr) {
	for _, key := range n.Table.idlest(p, n.isGateway) {
		if n.remove(key) {
			published = append(published, key)
		}
	}
	return published
}

// GatewaySilent tells whether the gateway has left so many requests unanswered that it must be
// gone: those to its MAC, and those to all. There is one each second while its MAC is old.
func (n *Neighbours) GatewaySilent() bool {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	if !n.Gateway.IsValid() {
		return false
	}
	e := n.Table.Entries[packet.AddrOf(n.Gateway)]
	return e != nil && e.asks > unicastAsks+maxAsks
}

func (n *Neighbours) isGateway(host packet.Addr) bool {
	return n.Gateway.IsValid() && host == packet.AddrOf(n.Gateway)
}

// remove forgets a host and the frames that wait for it. It tells whether the host
// had been published.
func (n *Neighbours) remove(key packet.Addr) (published bool) {
	e := n.Table.remove(key)
	n.GaveUp(len(n.release(e)))
	return e.Part() == PartUsed
}

// release removes the frames that wait for a host, and returns them.
func (n *Neighbours) release(e *neighbour) []packet.Frame {
	frames := e.waiting
	e.waiting = nil
	for _, f := range frames {
		n.Waiting -= len(f.Data)
	}
	return frames
}

// askAgain asks for a host's MAC, at most once in askInterval: the known MAC first, and then
// all hosts. Requests to all are rate-limited, except those for the gateway.
func (n *Neighbours) askAgain(key packet.Addr, e *neighbour, now int64) {
	if e.asks > 0 && now-e.asked < int64(askInterval) {
		return
	}
	to := config.BroadcastMAC
	if !e.MAC.IsZero() && e.asks < unicastAsks && !e.contested {
		to = e.MAC
	}
	if to == config.BroadcastMAC && !n.isGateway(key) {
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
	n.Ask(key, to)
}

// Hear records the MAC of a host, from its ARP or NDP. turnedToUs tells that the host asked
// for an address of ours. If no entry exists for the host, only such a host gets one.
func (n *Neighbours) Hear(host packet.Addr, mac config.MAC, turnedToUs bool, now int64) {
	n.Mu.Lock()
	change, waiting, changed := n.learn(host, mac, turnedToUs, now)
	n.Mu.Unlock()
	n.Tell(changed)
	if change.From != change.To {
		n.Learned(change)
	}
	for _, f := range waiting {
		copy(f.Eth(), mac[:])
	}
	if len(waiting) > 0 {
		n.send(waiting)
	}
}

func (n *Neighbours) learn(host packet.Addr, mac config.MAC, turnedToUs bool, now int64) (change MACChange, waiting []packet.Frame, changed []packet.Addr) {
	ip := host.Netip()
	if !mac.IsUnicast() || !n.onLink(ip) && ip != n.Gateway {
		return change, nil, nil
	}
	e := n.Table.Entries[host]
	switch {
	case e == nil && !turnedToUs:
		return change, nil, nil
	case e == nil:
		changed = n.makeRoom(PartHeard)
		e = n.Table.add(host, now)
	case !e.MAC.IsZero() && mac != e.MAC && now-e.changed < int64(LockTime):
		e.contested = true // once that time is over, tick asks who has the address
		return change, nil, nil
	}
	change = MACChange{ip, e.MAC, mac, ip == n.Gateway}
	waiting = n.release(e)
	n.Table.resolved(e, mac, now)
	if e.Part() != PartUsed && (len(waiting) > 0 || change.Gateway) {
		changed = append(changed, n.makeRoom(PartUsed)...)
		n.Table.used(e, now)
	}
	if change.From != mac && e.Part() == PartUsed {
		changed = append(changed, host)
	}
	return change, waiting, changed
}

// solicited takes in the MAC that a host says it has while it asks for an address of ours. A
// MAC that differs from the known one is not believed: the next tick asks which is right (S6).
func (n *Neighbours) solicited(host packet.Addr, mac config.MAC, now int64) {
	n.Mu.Lock()
	e := n.Table.Entries[host]
	contested := e != nil && !e.MAC.IsZero() && e.MAC != mac
	if contested {
		e.contested = true
	}
	n.Mu.Unlock()
	if !contested {
		n.Hear(host, mac, true, now)
	}
}

// advertised takes in a Neighbor Advertisement (RFC 4861 §7.2.5). It returns false if the
// message changes and confirms nothing.
func (n *Neighbours) advertised(m NDPMessage, now int64) (heeded bool) {
	n.Mu.RLock()
	e := n.Table.Entries[m.Target]
	var known config.MAC
	if e != nil {
		known = e.MAC
	}
	n.Mu.RUnlock()
	mac := m.MAC
	if mac.IsZero() {
		mac = known
	}
	switch {
	case e == nil || mac.IsZero():
		return false
	case mac == known && !m.Solicited: // only an answer proves that the host is there
		return false
	case mac != known && !known.IsZero() && !m.Override:
		return false
	}
	n.Hear(m.Target, mac, false, now)
	return true
}

// sendsTo tells whether frames go to a host. The gateway counts even before it is resolved.
func (n *Neighbours) sendsTo(host packet.Addr) bool {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	e := n.Table.Entries[host]
	return e != nil && e.Part() == PartUsed || n.isGateway(host)
}

// SurveyInterval is how often the kernel path is asked to which hosts it has sent frames.
const SurveyInterval = time.Second

// tick keeps the gateway resolved. It sends requests again for hosts for which frames wait
// or to which frames went lately, and forgets hosts that do not answer.
func (n *Neighbours) tick(now int64) {
	var changed []packet.Addr
	n.Mu.Lock()
	if n.Gateway.IsValid() {
		n.refreshGateway(now)
	}
	survey := now-n.surveyed >= int64(SurveyInterval)
	if survey {
		n.surveyed = now
	}
	n.Mu.Unlock()
	if survey {
		n.SentByKernel(n.noteUse)
	}
	n.Mu.Lock()
	for key, e := range n.Table.Entries {
		if !n.isGateway(key) && n.review(key, e, now) {
			changed = append(changed, key)
		}
	}
	givenUp := n.givenUp
	n.givenUp = nil
	n.Mu.Unlock()
	n.Tell(changed)
	for _, f := range givenUp {
		n.Unreachable(f)
	}
}

func (n *Neighbours) refreshGateway(now int64) {
	key := packet.AddrOf(n.Gateway)
	e := n.Table.Entries[key]
	if e == nil {
		e = n.Table.add(key, now)
	}
	switch {
	case e.contested && now-e.changed >= int64(LockTime), e.MAC.IsZero(), now-e.confirmed >= int64(ReachableTime):
		n.askAgain(key, e, now)
	}
	if e.MAC.IsZero() && now-e.made >= int64(maxAsks*askInterval) {
		n.noteUnreachable(e)
		n.GaveUp(len(n.release(e)))
		e.made = now
	}
}

// noteUnreachable notes that a host does not answer.
func (n *Neighbours) noteUnreachable(e *neighbour) {
	if n.Unreachable != nil && len(e.waiting) > 0 {
		n.givenUp = append(n.givenUp, e.waiting[0])
	}
}

// noteUse records when the kernel path last sent to a host.
func (n *Neighbours) noteUse(host packet.Addr, at int64) {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	if e := n.Table.Entries[host]; e != nil && e.Part() == PartUsed && at > e.lastUse.Load() {
		e.lastUse.Store(at)
	}
}

// review sends a request for a host again or forgets the host, if either is due. It tells
// whether it has forgotten a host that had been published.
func (n *Neighbours) review(key packet.Addr, e *neighbour, now int64) (forgotten bool) {
	switch {
	case e.MAC.IsZero() && now-e.made >= int64(maxAsks*askInterval), now-e.confirmed >= int64(forgetNeighbour) && !e.MAC.IsZero():
		n.noteUnreachable(e)
		return n.remove(key)
	case e.MAC.IsZero(), e.contested && now-e.changed >= int64(LockTime):
		n.askAgain(key, e, now)
	case now-e.confirmed >= int64(ReachableTime) && e.Part() == PartUsed && now-e.lastUse.Load() <= int64(2*SurveyInterval):
		n.askAgain(key, e, now)
	}
	return false
}

// AwaitGateway sends a request for the gateway and waits for the answer, at most
// gatewayWait. It returns false if the gateway does not answer in time, and true if it does
// or there is no gateway.
func (n *Neighbours) AwaitGateway(now func() int64) bool {
	n.Mu.RLock()
	gateway := n.Gateway
	n.Mu.RUnlock()
	if !gateway.IsValid() {
		return true
	}
	n.tick(now())
	const pause = 5 * time.Millisecond
	for waited := time.Duration(0); waited < gatewayWait; waited += pause {
		if _, ok := n.Lookup(gateway); ok {
			return true
		}
		time.Sleep(pause)
	}
	return false
}

// Router returns the gateway and its MAC: see [iface.Link].
func (n *Neighbours) Router() (gateway packet.Addr, mac config.MAC) {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	if !n.Gateway.IsValid() {
		return packet.NoAddr, mac
	}
	gateway = packet.AddrOf(n.Gateway)
	if e := n.Table.Entries[gateway]; e != nil {
		mac = e.MAC
	}
	return gateway, mac
}

// Lookup returns a host's MAC. ok is false if the host is not resolved.
func (n *Neighbours) Lookup(host netip.Addr) (config.MAC, bool) {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	e := n.Table.Entries[packet.AddrOf(host)]
	if e == nil || e.MAC.IsZero() {
		return config.MAC{}, false
	}
	return e.MAC, true
}
