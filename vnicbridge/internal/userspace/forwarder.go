package userspace

import (
	"sync/atomic"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// Forwarder carries frames in userspace. All its methods may be called by several goroutines
// at once.
type Forwarder struct {
	moving     lockorder.RWMutex[lockorder.Moving] // exclusive while the flows move to another table, else shared
	Flows      *flow.Table                         // changes only with moving held exclusively
	Handshakes *flow.Handshakes                    // of evicted flows
	Fragments  *fragmentTable
	Orphans    orphans
	Answers    [iface.Max]atomic.Pointer[answerLimits] // by the index of an iface
	rules      atomic.Pointer[rules.Ruleset]
	labels     atomic.Pointer[rules.Labels] // of the steer rules with names
	open       *rules.OpenPorts
	denied     *rules.Denied
	pacer      *pacer
	greetings  *greetings
	Clock      func() int64 // ns, monotonic
}

// New returns a forwarder with an empty flow table and without rules, so it opens no flows
// yet. open are the ports that listeners open, denied the networks outside that reach nothing;
// clock is the plane's clock, in ns.
func New(open *rules.OpenPorts, denied *rules.Denied, clock func() int64) *Forwarder {
	fw := &Forwarder{
		Handshakes: new(flow.Handshakes), Fragments: NewFragmentTable(),
		open: open, denied: denied, pacer: newPacer(), Clock: clock,
	}
	fw.greetings = newGreetings(fw.release)
	fw.Flows = flow.OwnTable(config.DefaultMaxFlows, fw.Handshakes)
	fw.labels.Store(new(rules.Labels))
	fw.SetRules(&rules.Ruleset{})
	return fw
}

// SetRules replaces the rules for new flows, and the limits. Only one goroutine at a time may call it.
func (fw *Forwarder) SetRules(r *rules.Ruleset) {
	fw.labels.Store(fw.labels.Load().Of(r))
	fw.rules.Store(r)
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.setLimits()
	fw.reviewGreetings(fw.Clock())
}

// setLimits sets the limits of the rules in the flow table in use.
func (fw *Forwarder) setLimits() {
	for vnic, limits := range fw.rules.Load().Limits {
		fw.Flows.SetLimits(vnic, limits)
	}
}

// CurrentRules returns the rules for new flows.
func (fw *Forwarder) CurrentRules() *rules.Ruleset { return fw.rules.Load() }

// Labels returns the labels of the steer rules with names, by which [flow.Flow.Rule] tells a rule.
func (fw *Forwarder) Labels() *rules.Labels { return fw.labels.Load() }

// InheritLabels takes over the numbers of a predecessor's rules. The labels are in force until the next
// SetRules, which forgets those that no rule has.
func (fw *Forwarder) InheritLabels(numbers map[string]uint32) {
	fw.labels.Store(rules.LabelsOf(numbers))
}

// SetLimit bounds the number of flows: see [flow.Table.SetLimit].
func (fw *Forwarder) SetLimit(flows int) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.SetLimit(flows)
}

// Fits tells whether the flow table's memory suffices for a limit.
func (fw *Forwarder) Fits(flows int) bool {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.Flows.Fits(flows, flow.Extras{Wide: true, Named: true})
}

// Know makes an iface known to the flow table. Only flows between known ifaces are found.
func (fw *Forwarder) Know(p *iface.Iface) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.Know(p)
	p.Gauge.Store(fw.Flows.Gauges(p))
}

// Forget makes a closed iface unknown to the flow table.
func (fw *Forwarder) Forget(p *iface.Iface) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.Forget(p)
}

// Lookup returns the flow that has a key: see [flow.Table.Lookup].
func (fw *Forwarder) Lookup(key flow.Key) (*flow.Flow, flow.Direction) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.Flows.Lookup(key)
}

// Refused returns how many packets were beyond a limit: see [flow.Table.Refused].
func (fw *Forwarder) Refused(vnic *iface.Iface) uint64 {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.Flows.Refused(vnic)
}

// FlowCount returns the number of living flows.
func (fw *Forwarder) FlowCount() int {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.Flows.Len()
}

// EachFlow calls visit with every living flow. It pauses now and then, so that packets and
// other calls go on. all is false if the flows moved to another table meanwhile, so that
// some were not visited.
func (fw *Forwarder) EachFlow(visit func(*flow.Flow)) (all bool) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	table := fw.Flows
	all = true
	table.Each(visit, func() bool {
		fw.moving.RUnlock()
		fw.moving.RLock()
		all = fw.Flows == table
		return all
	})
	return all
}

// HoldFlows calls a function. Until that returns, the flows do not move to another table,
// so the data path does not change.
func (fw *Forwarder) HoldFlows(do func()) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	do()
}

// Move moves the living flows to another table. Meanwhile the forwarder carries no packet.
// It calls before after it has listed the flows, and after when the new table is in use.
// Established flows move first. lost is how many flows the new table had no room for.
func (fw *Forwarder) Move(to *flow.Table, before, after func()) (lost int) {
	fw.moving.Lock()
	defer fw.moving.Unlock()
	var established, others []*flow.Flow
	fw.Flows.Each(func(f *flow.Flow) {
		if f.Class() == flow.ClassEstablished {
			established = append(established, f)
		} else {
			others = append(others, f)
		}
	}, func() bool { return true })
	before()
	for _, f := range append(established, others...) {
		if !to.Adopt(f) {
			lost++
		}
	}
	to.InheritLimits(fw.Flows)
	fw.Flows = to
	fw.setLimits()
	after()
	return lost
}

// Adopt adds the flows of a predecessor, whose ifaces had other numbers. Established flows come
// first. lost is how many flows the table has no room for, or whose ifaces are gone.
func (fw *Forwarder) Adopt(saved []flow.Saved, ifaces map[uint32]*iface.Iface) (lost int) {
	fw.moving.Lock()
	defer fw.moving.Unlock()
	var others []*flow.Flow
	adopt := func(f *flow.Flow) {
		if !fw.Flows.Adopt(f) {
			lost++
		}
	}
	for i := range saved {
		in, out := ifaces[saved[i].In], ifaces[saved[i].Out]
		if in == nil || out == nil {
			lost++
		} else if f := saved[i].Flow(in, out); f.Class() == flow.ClassEstablished {
			adopt(f)
		} else {
			others = append(others, f)
		}
	}
	for _, f := range others {
		adopt(f)
	}
	return lost
}

// AddRefused adds to [Forwarder.Refused] what a predecessor has refused.
func (fw *Forwarder) AddRefused(vnic *iface.Iface, packets uint64) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.Limits[vnic.Index].Refused.Add(packets)
}

// Arrival is one frame on its way through the forwarder.
type Arrival struct {
	packet.Packet
	In    *iface.Iface // at which the frame came in
	Frame *packet.Frame
	Now   int64         // the plane's clock, in ns
	Out   *iface.Outbox // takes the frames that are sent because of this one

	named    bool       // a host name has chosen the packet's segment
	chosen   choice     // by which rule; zero: by a connection id
	rule     uint32     // the number of that rule, or of the one that has chosen the server of the id
	own      bool       // the segment that sent the packet has opened its flow
	found    flow.Flow  // the packet's flow; the next packet reuses this memory
	reopened *flow.Flow // the closed flow whose tuple the packet reuses
}

// key returns the key of the packet's flow.
func (a *Arrival) key() flow.Key { return flow.Key{Tuple: a.Tuple, Iface: a.In.Index} }

// Run receives frames from a device, and carries them as if they came in at an iface. (On
// the kernel path, the device is the slow path's TAP.) It returns an error when the device
// is closed or fails.
func (fw *Forwarder) Run(in *iface.Iface, from iface.Device) error {
	batch := make([]packet.Frame, iface.BatchSize)
	a := Arrival{In: in, Out: new(iface.Outbox)}
	full := 0
	for {
		n, err := from.Receive(batch)
		if err != nil {
			return err
		}
		fw.ReceiveBatch(&a, batch[:n])
		if full++; n < len(batch) {
			full = 0
		} else if full == mostFull {
			full = 0
			time.Sleep(pollPause)
		}
	}
}

// After so many full batches, which take 2 to 3 ms, Run pauses. While a goroutine is ready for
// each processor, Go's scheduler looks at the network only every 10 ms (sysmon of the
// runtime), so a flood at one device would let the others, and Caddy's servers, wait for
// that long. A pause lets it look at once. Gosched would not: what yields is ready.
const (
	mostFull  = 10
	pollPause = 5 * time.Microsecond
)

// ReceiveBatch carries frames that came in at a.In, and sends what they lead to. A TAP has a server's
// answer to a SYN as soon as that is written to it. To carry the answer at once takes less time than
// to wake the goroutine that receives from the TAP.
func (fw *Forwarder) ReceiveBatch(a *Arrival, batch []packet.Frame) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.receiveAll(a, batch)
	device := a.In
	for _, asked := range a.Out.Expected() {
		if p, ok := asked.Device().(iface.Poller); ok {
			a.In = asked
			p.Poll(func(answers []packet.Frame) { fw.receiveAll(a, answers) })
		}
	}
	a.In = device
}

func (fw *Forwarder) receiveAll(a *Arrival, batch []packet.Frame) {
	a.Now = fw.Clock()
	device := a.In
	for i := range batch {
		a.In, a.Frame = device, &batch[i]
		fw.Receive(a)
	}
	a.In = device
	a.Out.Flush()
}

// Receive handles the frame a.Frame and counts it. It sets a.In to the iface of the frame's
// family. The caller holds moving, and flushes a.Out.
func (fw *Forwarder) Receive(a *Arrival) {
	size := len(a.Frame.Data) - packet.VNetHeaderLen
	verdict := fw.handle(a)
	a.In.PacketsIn.Add(1)
	a.In.BytesIn.Add(uint64(size))
	if verdict != packet.Keep {
		a.In.Drops[verdict].Add(1)
	}
}

func (fw *Forwarder) handle(a *Arrival) packet.DropReason {
	a.own, a.named, a.chosen, a.rule = false, false, choice{}, 0
	if len(a.Frame.Eth()) < packet.EthHeaderLen {
		return packet.DropMalformed
	}
	if !a.Frame.Untag() {
		return packet.DropVLAN
	}
	etherType := a.Frame.EtherType()
	if etherType == packet.EtherIPv6 && a.In.V6 != nil {
		a.In = a.In.V6
	}
	if a.In.NIC != nil {
		return fw.fromNIC(a, etherType)
	}
	return fw.fromVNIC(a, etherType)
}

// parse reads the packet of a frame. It must be of the family of a.In.
func (a *Arrival) parse(etherType uint16) (verdict packet.DropReason) {
	switch {
	case etherType == packet.EtherIPv4 && a.In.Address() != packet.NoAddr:
		a.Packet, verdict = packet.ParseIPv4(a.Frame)
	case etherType == packet.EtherIPv6 && a.In.Address().IsIPv6():
		a.Packet, verdict = packet.ParseIPv6(a.Frame)
	default:
		verdict = packet.DropEtherType
	}
	return verdict
}

func (fw *Forwarder) fromNIC(a *Arrival, etherType uint16) packet.DropReason {
	if etherType == packet.EtherARP && a.In.NIC.Link != nil || a.In.NIC.Address.IsIPv6() && a.Frame.IsNeighbourDiscovery() {
		return a.In.NIC.Link.HandleNeighbour(a.Frame, a.Now)
	}
	if verdict := a.parse(etherType); verdict == packet.DropEtherType {
		return verdict
	} else if dst := a.Frame.DstMAC(); dst.IsGroup() {
		return packet.DropGroup
	} else if dst != a.In.MAC() {
		return packet.DropNotForUs
	} else if verdict != packet.Keep {
		return verdict
	}
	if a.Dst != a.In.NIC.Address {
		return packet.DropNotForUs
	}
	if fw.denied.Has(a.In, a.Src) {
		return packet.DropDenied
	}
	return fw.carry(a)
}

func (fw *Forwarder) fromVNIC(a *Arrival, etherType uint16) packet.DropReason {
	link := a.In.VNIC.Link
	switch {
	case link != nil && (etherType == packet.EtherARP || a.In.Family == config.IPv6 && a.Frame.IsNeighbourDiscovery()):
		return link.HandleNeighbour(a.Frame, a.Now)
	case etherType == packet.EtherARP:
		return packet.DropARP // a segment has permanent neighbour entries, so it need not ask
	}
	if verdict := a.parse(etherType); verdict == packet.DropEtherType {
		return verdict
	} else if a.Frame.DstMAC().IsGroup() {
		return packet.DropGroup
	} else if link != nil && a.Frame.DstMAC() != a.In.MAC() {
		return packet.DropNotForUs
	} else if verdict != packet.Keep {
		return verdict
	}
	if a.Src != a.In.VNIC.Address || link != nil && !isServers(link, a.Frame) {
		return packet.DropSource
	}
	return fw.carry(a)
}

// isServers tells whether the server behind a device has sent a frame: no other host there may
// speak for it (S2).
func isServers(link iface.Link, f *packet.Frame) bool {
	_, server := link.Router()
	return f.SrcMAC() == server
}

// carry sends a packet to the other end of its flow.
func (fw *Forwarder) carry(a *Arrival) packet.DropReason {
	switch {
	case !a.Carried():
		return fw.refuseProtocol(a)
	case a.Fragment:
		return fw.carryFragment(a)
	case a.ICMPError:
		return fw.carryError(a)
	}
	fl, dir, verdict := fw.flowOf(a)
	if fl == nil {
		return verdict
	}
	return fw.passOn(a, fl, dir)
}

// passOn sends a packet of a flow to the flow's other end.
func (fw *Forwarder) passOn(a *Arrival, fl *flow.Flow, dir flow.Direction) packet.DropReason {
	to, tuple := fl.OtherEnd(dir)
	if mtu := to.LinkMTU(); a.tooBig(mtu) {
		return fw.refuseTooBig(a, mtu)
	}
	a.own = dir == flow.Forward && a.In.VNIC != nil
	a.shiftToClient(fl, dir)
	a.Rewrite(tuple, a.Frame.ChecksumUnfinished())
	return fw.depart(a, to, tuple.Dst)
}

// shiftToClient changes a server's packet to the numbers that its client knows, if those differ
// (N5). A client's packet has been changed already.
func (a *Arrival) shiftToClient(fl *flow.Flow, dir flow.Direction) {
	if shift, ok := fl.Shift(dir); ok && dir == flow.Reverse {
		a.ShiftToClient(shift, a.Frame.ChecksumUnfinished())
	}
}

// flowOf finds or opens the flow of a packet, and updates the flow's state for the packet.
// The flow is valid until the next packet. It is nil if the packet is dropped.
func (fw *Forwarder) flowOf(a *Arrival) (fl *flow.Flow, dir flow.Direction, verdict packet.DropReason) {
	dir, known := fw.Flows.Find(&a.Tuple, a.In.Index, &a.found)
	if known {
		fl = &a.found
	}
	a.reopened = nil
	if fl != nil && fl.Reopens(&a.Packet) {
		a.reopened, fl = fl, nil
	}
	if fl == nil {
		if fl, verdict = fw.admit(a); fl == nil {
			return nil, flow.Forward, verdict
		}
		if dir = flow.Forward; fl.In != a.In {
			dir = flow.Reverse // an answer has picked the flow up
		}
	}
	if fl.Flags.Load()&flow.Greeted != 0 {
		if verdict, taken := fw.ofGreeted(a, fl, dir); taken {
			return nil, dir, verdict
		}
	}
	fw.observe(a, fl, dir)
	return fl, dir, packet.Keep
}

// ofGreeted prepares a packet of a greeted flow. taken is false if the packet goes on, with the numbers
// of the flow's state, which are the server's.
func (fw *Forwarder) ofGreeted(a *Arrival, fl *flow.Flow, dir flow.Direction) (verdict packet.DropReason, taken bool) {
	if a.Proto == config.UDP {
		fw.learnServer(a, fl, dir)
		return packet.Keep, false
	}
	shift, goesOn := fl.Shift(dir)
	if !goesOn {
		if verdict, taken := fw.greeted(a, fl, dir); taken {
			return verdict, true
		}
		shift, goesOn = fl.Shift(dir)
	}
	if goesOn && dir == flow.Forward {
		a.ShiftToServer(shift, a.Frame.ChecksumUnfinished())
	}
	return packet.Keep, false
}

// observe updates a flow's state for a packet. The numbers of a shifted flow are the server's.
func (fw *Forwarder) observe(a *Arrival, fl *flow.Flow, dir flow.Direction) {
	if before, after := fl.Observe(&a.Packet, dir, len(a.Frame.Eth()), a.Now); before != after {
		fw.Flows.Moved(fl, before, after)
	}
}

// leaveBy queues the rewritten frame to be sent by an iface, with the MACs of that link. On
// a VNIC, the source MAC stays that of the frame's sender (A3). On a link, it is the iface's
// (A4), and the frame may wait until the next hop is resolved.
func (a *Arrival) leaveBy(p *iface.Iface, dst packet.Addr) packet.DropReason {
	mac := p.MAC()
	if !p.HasLink() {
		copy(a.Frame.Eth(), mac[:])
		a.Out.Put(p, *a.Frame)
		return packet.Keep
	}
	mac = p.SourceMAC()
	copy(a.Frame.Eth()[6:], mac[:])
	ready, verdict := p.Link().Forward(a.Frame, dst, a.own, a.Now)
	if ready {
		a.Out.Put(p, *a.Frame)
	}
	return verdict
}

// sendBack queues an answer to the frame's sender, by the iface at which the frame came in. One
// that stands by answers nothing (H2).
func (a *Arrival) sendBack(f packet.Frame) {
	if a.In.StandsBy() {
		return
	}
	answer := *a
	answer.Frame = &f
	if a.In.VNIC != nil {
		answer.Out.Put(a.In, f)
		return
	}
	if verdict := answer.leaveBy(a.In, a.Src); verdict != packet.Keep {
		a.In.Drops[verdict].Add(1)
	}
}

// Tick ends what is due: idle flows, unfinished fragments and orphans. passed is the time
// since the last call.
func (fw *Forwarder) Tick(now int64, passed time.Duration) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.Sweep(now, passed)
	fw.Fragments.sweep(now)
	fw.endOrphans(now)
	fw.tickGreetings(now)
}
