package vnicbridge

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Timing and bounds of next-hop resolution. The times are those of Linux's
// neighbour table (base_reachable_time, retrans_timer, ucast_solicit).
const (
	reachableTime   = 30 * time.Second // a MAC is used unasked for this long
	askInterval     = time.Second      // between two questions for the same host
	maxAsks         = 3                // unanswered, before the waiting frames are given up
	maxWaiting      = 16               // frames that wait for one host
	maxNeighbours   = 4096             // hosts on one link
	unicastAsks     = 3                // a known host is asked directly first
	forgetNeighbour = 10 * time.Minute // a host not heard of for this long is forgotten
	gatewayWait     = time.Second      // for the gateway's first answer, at the start
)

// neighbours resolves the next hops on a NIC's link by ARP from the pseudo
// address (A7): the host's own table is not used, because the host has no
// address there.
type neighbours struct {
	link    netip.Prefix
	ask     func(target addr, to MAC) // sends an ARP request, to a host or to all
	send    func([]frame)             // sends frames that have waited
	gaveUp  func(frames int)          // counts frames that nobody will get
	learned func(macChange)           // called, unlocked, when a MAC is new or has changed
	publish func(host addr, mac MAC)  // called, unlocked, to tell the kernel data path of a MAC, or that it is forgotten
	inUse   func(host addr) bool      // asks the kernel data path whether it sends there

	mu      sync.RWMutex
	gateway netip.Addr // not valid: there is none
	entries map[addr]*neighbour
}

// macChange is a host's new MAC.
type macChange struct {
	host     netip.Addr
	from, to MAC // from is zero when the host was unknown
	gateway  bool
}

type neighbour struct {
	mac       MAC // zero while it is unknown
	confirmed int64
	asked     int64
	asks      int // since the last answer
	waiting   []frame
}

// setGateway names the router of the link, or none.
func (n *neighbours) setGateway(gateway netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gateway = gateway
}

// nextHop is the host on the link by which a destination is reached.
func (n *neighbours) nextHop(dst netip.Addr) (netip.Addr, bool) {
	if n.link.Contains(dst) {
		return dst, true
	}
	return n.gateway, n.gateway.IsValid()
}

// forward gives a frame for a destination its next hop's MAC. False means that
// the frame is not ready to be sent: it waits for an answer, or the verdict says
// why it never will be.
func (n *neighbours) forward(f *frame, dst addr, now int64) (ready bool, verdict dropReason) {
	n.mu.RLock()
	hop, ok := n.nextHop(dst.netip())
	if !ok {
		n.mu.RUnlock()
		return false, dropUnresolved
	}
	key := addrOf(hop)
	e := n.entries[key]
	fresh := e != nil && !e.mac.IsZero() && now-e.confirmed < int64(reachableTime)
	if fresh {
		copy(f.eth(), e.mac[:])
	}
	n.mu.RUnlock()
	if fresh {
		return true, keep
	}
	return n.resolve(f, key, now)
}

// resolve asks for a next hop that is unknown or has not been heard of lately.
func (n *neighbours) resolve(f *frame, key addr, now int64) (ready bool, verdict dropReason) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.entries[key]
	if e == nil {
		if len(n.entries) >= maxNeighbours {
			return false, dropUnresolved
		}
		e = &neighbour{}
		n.entries[key] = e
	}
	n.askAgain(key, e, now)
	if !e.mac.IsZero() {
		copy(f.eth(), e.mac[:])
		return true, keep
	}
	if len(e.waiting) >= maxWaiting {
		return false, dropUnresolved
	}
	e.waiting = append(e.waiting, frame{data: slices.Clone(f.data)})
	return false, keep
}

// askAgain asks for a host, at most once in askInterval: a known host directly at
// first, then everybody.
func (n *neighbours) askAgain(key addr, e *neighbour, now int64) {
	if e.asks > 0 && now-e.asked < int64(askInterval) {
		return
	}
	to := broadcastMAC
	if !e.mac.IsZero() && e.asks < unicastAsks {
		to = e.mac
	}
	e.asked = now
	e.asks++
	n.ask(key, to)
}

// hear takes in that a host has a MAC. Hosts that nobody asked for are remembered
// only if they turned to us.
func (n *neighbours) hear(host addr, mac MAC, turnedToUs bool, now int64) {
	ip := host.netip()
	n.mu.Lock()
	if !mac.IsUnicast() || !n.link.Contains(ip) && ip != n.gateway {
		n.mu.Unlock()
		return
	}
	e := n.entries[host]
	if e == nil {
		if !turnedToUs || len(n.entries) >= maxNeighbours {
			n.mu.Unlock()
			return
		}
		e = &neighbour{}
		n.entries[host] = e
	}
	change := macChange{ip, e.mac, mac, ip == n.gateway}
	e.mac, e.confirmed, e.asks = mac, now, 0
	waiting := e.waiting
	e.waiting = nil
	n.mu.Unlock()

	if change.from != change.to {
		n.publish(host, mac)
		n.learned(change)
	}
	for _, f := range waiting {
		copy(f.eth(), mac[:])
	}
	if len(waiting) > 0 {
		n.send(waiting)
	}
}

// tick keeps the gateway resolved, asks again for hosts that frames wait for, and
// forgets those that do not answer.
func (n *neighbours) tick(now int64) {
	for _, host := range n.refresh(now) {
		n.publish(host, MAC{})
	}
}

func (n *neighbours) refresh(now int64) (forgotten []addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gateway.IsValid() {
		key := addrOf(n.gateway)
		e := n.entries[key]
		if e == nil {
			e = &neighbour{}
			n.entries[key] = e
		}
		if e.mac.IsZero() || now-e.confirmed >= int64(reachableTime) {
			n.askAgain(key, e, now)
		}
	}
	for key, e := range n.entries {
		switch {
		case key.netip() == n.gateway && len(e.waiting) == 0:
		case e.mac.IsZero() && e.asks >= maxAsks && now-e.asked >= int64(askInterval):
			n.gaveUp(len(e.waiting))
			delete(n.entries, key)
		case e.mac.IsZero():
			n.askAgain(key, e, now)
		case now-e.confirmed >= int64(forgetNeighbour):
			delete(n.entries, key)
			forgotten = append(forgotten, key)
		case now-e.confirmed >= int64(reachableTime) && n.inUse(key):
			n.askAgain(key, e, now)
		}
	}
	return forgotten
}

// awaitGateway asks for the gateway and waits a little for the answer. It tells
// whether there is nothing to wait for any more.
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

// each calls a function, unlocked, with every host whose MAC is known.
func (n *neighbours) each(visit func(host addr, mac MAC)) {
	known := make(map[addr]MAC)
	n.mu.RLock()
	for host, e := range n.entries {
		if !e.mac.IsZero() {
			known[host] = e.mac
		}
	}
	n.mu.RUnlock()
	for host, mac := range known {
		visit(host, mac)
	}
}

// router returns the gateway and its MAC, as far as they are known.
func (n *neighbours) router() (gateway addr, mac MAC) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.gateway.IsValid() {
		return noAddr, mac
	}
	gateway = addrOf(n.gateway)
	if e := n.entries[gateway]; e != nil {
		mac = e.mac
	}
	return gateway, mac
}

// lookup returns a host's MAC, if it is known.
func (n *neighbours) lookup(host netip.Addr) (MAC, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	e := n.entries[addrOf(host)]
	if e == nil || e.mac.IsZero() {
		return MAC{}, false
	}
	return e.mac, true
}
