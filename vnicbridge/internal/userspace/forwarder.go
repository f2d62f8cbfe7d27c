package userspace

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// Forwarder is the userspace data path: it takes the frames that come in at the
// ifaces, finds or opens their flows, rewrites them and sends them on.
type Forwarder struct {
	moving     sync.RWMutex // held while the flows go to another table
	Flows      *flow.Table
	Handshakes *flow.Handshakes // whose flows had to make room
	Fragments  *fragmentTable
	Orphans    orphans
	Answers    [iface.Max]atomic.Pointer[answerLimits] // by the number of an iface
	rules      atomic.Pointer[rules.Ruleset]
	open       *rules.OpenPorts
	Clock      func() int64 // nanoseconds, monotonic
}

func New(open *rules.OpenPorts, clock func() int64) *Forwarder {
	fw := &Forwarder{
		Handshakes: new(flow.Handshakes), Fragments: NewFragmentTable(),
		open: open, Clock: clock,
	}
	fw.Flows = flow.OwnTable(config.DefaultMaxFlows, fw.Handshakes)
	fw.SetRules(&rules.Ruleset{})
	return fw
}

func (fw *Forwarder) SetRules(r *rules.Ruleset) { fw.rules.Store(r) }

func (fw *Forwarder) CurrentRules() *rules.Ruleset { return fw.rules.Load() }

func (fw *Forwarder) SetLimit(flows int) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.SetLimit(flows)
}

// Fits tells whether the flow table has room for a number of flows.
func (fw *Forwarder) Fits(flows int) bool {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.Flows.Fits(flows)
}

// Know lets flows begin and end at an iface.
func (fw *Forwarder) Know(p *iface.Iface) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.Know(p)
	p.Gauge.Store(fw.Flows.Gauges(p))
}

// Forget lets no flow of a closed iface be found any more.
func (fw *Forwarder) Forget(p *iface.Iface) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.Forget(p)
}

func (fw *Forwarder) Lookup(key flow.Key) (*flow.Flow, flow.Direction) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.Flows.Lookup(key)
}

func (fw *Forwarder) FlowCount() int {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.Flows.Len()
}

// EachFlow calls a function with every flow, in parts between which packets are
// carried. False: the flows went to another table meanwhile, and it was not all.
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

// HoldFlows calls a function. Until it returns, no flow goes to another table, and the data
// path does not change.
func (fw *Forwarder) HoldFlows(do func()) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	do()
}

// Move takes the living flows to another table, while no packet is carried.
// before and after are called around that. It returns how many had no room;
// established ones go first.
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
	fw.Flows = to
	after()
	return lost
}

// Arrival is one frame on its way through the forwarder.
type Arrival struct {
	packet.Packet
	In    *iface.Iface
	Frame *packet.Frame
	Now   int64
	Out   *iface.Outbox // where what it leads to is put

	own      bool       // it is of a flow that the segment opened by which it came
	found    flow.Flow  // of the packet, in memory that the next packet uses again
	reopened *flow.Flow // the flow that is over whose tuple the packet uses again
}

// Run carries what a device gives as having come in at an iface, until it is closed.
func (fw *Forwarder) Run(in *iface.Iface, from iface.Device) error {
	batch := make([]packet.Frame, iface.BatchSize)
	a := Arrival{In: in, Out: new(iface.Outbox)}
	for {
		n, err := from.Receive(batch)
		if err != nil {
			return err
		}
		fw.ReceiveBatch(&a, batch[:n])
	}
}

func (fw *Forwarder) ReceiveBatch(a *Arrival, batch []packet.Frame) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	a.Now = fw.Clock()
	for i := range batch {
		a.Frame = &batch[i]
		fw.Receive(a)
	}
	a.Out.Flush()
}

// Receive handles one frame and counts it.
func (fw *Forwarder) Receive(a *Arrival) {
	a.In.PacketsIn.Add(1)
	a.In.BytesIn.Add(uint64(len(a.Frame.Data) - packet.VNetHeaderLen))
	if verdict := fw.handle(a); verdict != packet.Keep {
		a.In.Drops[verdict].Add(1)
	}
}

func (fw *Forwarder) handle(a *Arrival) packet.DropReason {
	a.own = false
	switch {
	case len(a.Frame.Eth()) < packet.EthHeaderLen:
		return packet.DropMalformed
	case !a.Frame.Untag():
		return packet.DropVLAN
	case a.In.NIC != nil:
		return fw.fromNIC(a)
	default:
		return fw.fromVNIC(a)
	}
}

func (fw *Forwarder) fromNIC(a *Arrival) (verdict packet.DropReason) {
	switch a.Frame.EtherType() {
	case packet.EtherARP:
		return a.In.NIC.Link.HandleARP(a.Frame, a.Now)
	case packet.EtherIPv4:
	default:
		return packet.DropEtherType
	}
	if dst := a.Frame.DstMAC(); dst.IsGroup() {
		return packet.DropGroup
	} else if dst != a.In.MAC() {
		return packet.DropNotForUs
	}
	if a.Packet, verdict = packet.ParseIPv4(a.Frame); verdict != packet.Keep {
		return verdict
	}
	if a.Dst != a.In.NIC.Address {
		return packet.DropNotForUs
	}
	return fw.carry(a)
}

func (fw *Forwarder) fromVNIC(a *Arrival) (verdict packet.DropReason) {
	switch {
	case a.Frame.EtherType() == packet.EtherARP:
		return packet.DropARP // neighbours of a segment are permanent: nothing to ask for
	case a.Frame.EtherType() != packet.EtherIPv4:
		return packet.DropEtherType
	case a.Frame.DstMAC().IsGroup():
		return packet.DropGroup
	}
	if a.Packet, verdict = packet.ParseIPv4(a.Frame); verdict != packet.Keep {
		return verdict
	}
	if a.Src != a.In.VNIC.Address {
		return packet.DropSource
	}
	return fw.carry(a)
}

// carry moves a packet to the other end of its flow.
func (fw *Forwarder) carry(a *Arrival) packet.DropReason {
	switch {
	case !a.Proto.Carried():
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
	to, tuple := fl.OtherEnd(dir)
	if mtu := to.LinkMTU(); a.tooBig(mtu) {
		return fw.refuseTooBig(a, mtu)
	}
	a.own = dir == flow.Forward && a.In.VNIC != nil
	a.Rewrite(tuple, a.Frame.ChecksumUnfinished())
	return a.leaveBy(to, tuple.Dst)
}

// flowOf finds the flow of a packet, or opens one, and takes the packet into
// account there. The flow is valid until the next packet.
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
			dir = flow.Reverse // it was picked up by an answer
		}
	}
	if before, after := fl.Observe(&a.Packet, dir, len(a.Frame.Eth()), a.Now); before != after {
		fw.Flows.Moved(fl, before, after)
	}
	return fl, dir, packet.Keep
}

// leaveBy puts the rewritten frame on the way out of an iface, with the MACs of its
// link: on a VNIC the source stays the one that the frame came with (A3), on a
// NIC it is the NIC's (A4).
func (a *Arrival) leaveBy(p *iface.Iface, dst packet.Addr) packet.DropReason {
	mac := p.MAC()
	if p.VNIC != nil {
		copy(a.Frame.Eth(), mac[:])
		a.Out.Put(p, *a.Frame)
		return packet.Keep
	}
	copy(a.Frame.Eth()[6:], mac[:])
	ready, verdict := p.NIC.Link.Forward(a.Frame, dst, a.own, a.Now)
	if ready {
		a.Out.Put(p, *a.Frame)
	}
	return verdict
}

// sendBack puts a frame of our own making on the way out of the iface that a frame
// came in by, to where that came from.
func (a *Arrival) sendBack(f packet.Frame) {
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

// Tick does what time asks for: idle flows and unfinished fragments end.
func (fw *Forwarder) Tick(now int64, passed time.Duration) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.Flows.Sweep(now, passed)
	fw.Fragments.sweep(now)
	fw.endOrphans(now)
}
