package link

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Timing and bounds of next-hop resolution. The times are those of Linux's
// neighbour table (base_reachable_time, retrans_timer, ucast_solicit, locktime).
const (
	ReachableTime   = 30 * time.Second // how long a MAC is used before the host is asked again
	askInterval     = time.Second      // between two questions for the same host
	maxAsks         = 3                // without an answer, before the waiting frames are dropped
	maxWaiting      = 16               // frames that wait for one host
	MaxWaitingBytes = 8 << 20          // of the frames that wait for all hosts of a link
	unicastAsks     = 3                // a known host is asked directly first
	forgetNeighbour = 10 * time.Minute // how long a host is remembered that is not heard of
	gatewayWait     = time.Second      // for the gateway's first answer, at the start
	LockTime        = time.Second      // a host's MAC changes at most once in this time
)

// Every host on the link gets a broadcast question, and a forged source address causes
// one. Questions for flows that segments open have a separate budget.
const (
	BroadcastRate  = 512 // a second
	BroadcastBurst = 1024
)

// Neighbours resolves the next hops on a NIC's link by ARP from the pseudo address (A7).
// The host's own table cannot serve, because the host has no address on the link.
type Neighbours struct {
	link    netip.Prefix
	Ask     func(target packet.Addr, to config.MAC) // sends an ARP request, to a host or to all
	send    func([]packet.Frame)                    // sends frames that have waited
	GaveUp  func(frames int)                        // counts frames that nobody will get
	Learned func(MACChange)                         // called, unlocked, when a MAC is new or has changed

	// Publish is called, unlocked, to tell the data path which MAC a host has. A zero MAC
	// means that no frames go to the host.
	Publish func(host packet.Addr, mac config.MAC, gateway bool)
	// SentByKernel visits the hosts to which the kernel data path has sent frames,
	// with the time of the last one.
	SentByKernel func(visit func(host packet.Addr, at int64))

	publishing sync.Mutex // held while publish is called; taken before mu
	Mu         sync.RWMutex
	Gateway    netip.Addr // not valid: there is none
	Table      neighbourTable
	Waiting    int              // bytes of frames
	surveyed   int64            // when SentByKernel was last called
	broadcasts [2]*rate.Limiter // of questions: for answers to clients, for segments' own flows
}

func NewNeighbours(link netip.Prefix) *Neighbours {
	n := &Neighbours{link: link, Table: NewNeighbourTable()}
	for i := range n.broadcasts {
		n.broadcasts[i] = rate.NewLimiter(BroadcastRate, BroadcastBurst)
	}
	return n
}

// MACChange is a host's new MAC.
type MACChange struct {
	Host     netip.Addr
	From, To config.MAC // from is zero when the host was unknown
	Gateway  bool
}

// SetGateway names the router of the link, or none.
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

// Tell publishes what is true of hosts now. If two goroutines tell of one host, the later
// one has the last word.
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

// TellAll publishes all hosts that frames go to, for a data path that is new.
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

// nextHop is the host on the link by which a destination is reached.
func (n *Neighbours) nextHop(dst netip.Addr) (netip.Addr, bool) {
	if n.link.Contains(dst) {
		return dst, true
	}
	return n.Gateway, n.Gateway.IsValid()
}

// Forward gives a frame for a destination its next hop's MAC. own says that the
// frame is of a flow that a segment has opened. A false ready means that the frame
// is not sent now: it waits for an answer, or the verdict says why it never will be.
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

// resolve sends to a next hop for the first time, or asks for one that is unknown
// or has not been heard of lately.
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

// makeRoom removes entries from a part of the table, if the part is full. It returns those
// that had been published.
func (n *Neighbours) makeRoom(p NeighbourPart) (published []packet.Addr) {
	for _, key := range n.Table.idlest(p, n.isGateway) {
		if n.remove(key) {
			published = append(published, key)
		}
	}
	return published
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

// release takes the frames that wait for a host.
func (n *Neighbours) release(e *neighbour) []packet.Frame {
	frames := e.waiting
	e.waiting = nil
	for _, f := range frames {
		n.Waiting -= len(f.Data)
	}
	return frames
}

// askAgain asks for a host, at most once in askInterval: a known host directly at
// first, then everybody, within the budget of broadcasts. The gateway is asked for
// whatever the budget says.
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

// Hear takes in that a host has a MAC. If nobody asked for the host, it is remembered only
// if it asked for us.
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
	if !mac.IsUnicast() || !n.link.Contains(ip) && ip != n.Gateway {
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

// sendsTo tells whether frames go to a host. To the gateway they do even before its MAC
// is known.
func (n *Neighbours) sendsTo(host packet.Addr) bool {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	e := n.Table.Entries[host]
	return e != nil && e.Part() == PartUsed || n.isGateway(host)
}

// SurveyInterval is how often the kernel data path is asked where it sent frames.
const SurveyInterval = time.Second

// tick keeps the gateway resolved. It asks again for the hosts for which frames wait or to
// which frames went lately, and forgets the hosts that do not answer.
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
	n.Mu.Unlock()
	n.Tell(changed)
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
		n.GaveUp(len(n.release(e)))
		e.made = now
	}
}

// noteUse takes in when the kernel data path last sent to a host.
func (n *Neighbours) noteUse(host packet.Addr, at int64) {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	if e := n.Table.Entries[host]; e != nil && e.Part() == PartUsed && at > e.lastUse.Load() {
		e.lastUse.Store(at)
	}
}

// review asks for a host again or forgets it, if it is time to. It tells whether a host
// that had been published is forgotten.
func (n *Neighbours) review(key packet.Addr, e *neighbour, now int64) (forgotten bool) {
	switch {
	case e.MAC.IsZero() && now-e.made >= int64(maxAsks*askInterval), now-e.confirmed >= int64(forgetNeighbour) && !e.MAC.IsZero():
		return n.remove(key)
	case e.MAC.IsZero(), e.contested && now-e.changed >= int64(LockTime):
		n.askAgain(key, e, now)
	case now-e.confirmed >= int64(ReachableTime) && e.Part() == PartUsed && now-e.lastUse.Load() <= int64(2*SurveyInterval):
		n.askAgain(key, e, now)
	}
	return false
}

// AwaitGateway asks for the gateway and waits for the answer, at most gatewayWait. It tells
// whether the gateway has answered, or there is none.
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

// Router returns the gateway and its MAC, as far as they are known.
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

// Lookup returns a host's MAC, if it is known.
func (n *Neighbours) Lookup(host netip.Addr) (config.MAC, bool) {
	n.Mu.RLock()
	defer n.Mu.RUnlock()
	e := n.Table.Entries[packet.AddrOf(host)]
	if e == nil || e.MAC.IsZero() {
		return config.MAC{}, false
	}
	return e.MAC, true
}
