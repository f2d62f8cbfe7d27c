package vnicbridge

import (
	"sync"
	"sync/atomic"
	"time"
)

// forwarder is the userspace data path: it takes the frames that come in at the
// ports, finds or opens their flows, rewrites them and sends them on.
type forwarder struct {
	moving     sync.RWMutex // held while the flows go to another table
	flows      *flowTable
	handshakes *handshakes // whose flows had to make room
	fragments  *fragmentTable
	orphans    orphans
	answers    [maxPorts]atomic.Pointer[answerLimits] // by the number of a port
	rules      atomic.Pointer[ruleset]
	open       *openPorts
	clock      func() int64 // nanoseconds, monotonic
}

func newForwarder(open *openPorts, clock func() int64) *forwarder {
	fw := &forwarder{
		handshakes: new(handshakes), fragments: newFragmentTable(),
		open: open, clock: clock,
	}
	fw.flows = ownTable(DefaultMaxFlows, fw.handshakes)
	fw.setRules(&ruleset{})
	return fw
}

func (fw *forwarder) setRules(r *ruleset) { fw.rules.Store(r) }

func (fw *forwarder) currentRules() *ruleset { return fw.rules.Load() }

func (fw *forwarder) setLimit(flows int) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.flows.setLimit(flows)
}

// fits tells whether the flow table has room for a number of flows.
func (fw *forwarder) fits(flows int) bool {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.flows.fits(flows)
}

// know lets flows begin and end at a port.
func (fw *forwarder) know(p *port) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.flows.know(p)
	p.gauge.Store(fw.flows.gauges(p))
}

// forget lets no flow of a closed port be found any more.
func (fw *forwarder) forget(p *port) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.flows.forget(p)
}

func (fw *forwarder) lookup(key flowKey) (*flow, direction) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.flows.lookup(key)
}

func (fw *forwarder) flowCount() int {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	return fw.flows.len()
}

// eachFlow calls a function with every flow, in parts between which packets are
// carried. False: the flows went to another table meanwhile, and it was not all.
func (fw *forwarder) eachFlow(visit func(*flow)) (all bool) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	table := fw.flows
	all = true
	table.each(visit, func() bool {
		fw.moving.RUnlock()
		fw.moving.RLock()
		all = fw.flows == table
		return all
	})
	return all
}

// holdFlows calls a function. Until it returns, no flow goes to another table, and the data
// path does not change.
func (fw *forwarder) holdFlows(do func()) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	do()
}

// move takes the living flows to another table, while no packet is carried.
// before and after are called around that. It returns how many had no room;
// established ones go first.
func (fw *forwarder) move(to *flowTable, before, after func()) (lost int) {
	fw.moving.Lock()
	defer fw.moving.Unlock()
	var established, others []*flow
	fw.flows.each(func(f *flow) {
		if f.class() == classEstablished {
			established = append(established, f)
		} else {
			others = append(others, f)
		}
	}, func() bool { return true })
	before()
	for _, f := range append(established, others...) {
		if !to.adopt(f) {
			lost++
		}
	}
	fw.flows = to
	after()
	return lost
}

// arrival is one frame on its way through the forwarder.
type arrival struct {
	packet
	in    *port
	frame *frame
	now   int64
	out   *outbox // where what it leads to is put

	own      bool  // it is of a flow that the segment opened by which it came
	found    flow  // of the packet, in memory that the next packet uses again
	reopened *flow // the flow that is over whose tuple the packet uses again
}

// run carries what a device gives as having come in at a port, until it is closed.
func (fw *forwarder) run(in *port, from device) error {
	batch := make([]frame, batchSize)
	a := arrival{in: in, out: new(outbox)}
	for {
		n, err := from.receive(batch)
		if err != nil {
			return err
		}
		fw.receiveBatch(&a, batch[:n])
	}
}

func (fw *forwarder) receiveBatch(a *arrival, batch []frame) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	a.now = fw.clock()
	for i := range batch {
		a.frame = &batch[i]
		fw.receive(a)
	}
	a.out.flush()
}

// receive handles one frame and counts it.
func (fw *forwarder) receive(a *arrival) {
	a.in.packetsIn.Add(1)
	a.in.bytesIn.Add(uint64(len(a.frame.data) - vnetHeaderLen))
	if verdict := fw.handle(a); verdict != keep {
		a.in.drops[verdict].Add(1)
	}
}

func (fw *forwarder) handle(a *arrival) dropReason {
	a.own = false
	switch {
	case len(a.frame.eth()) < ethHeaderLen:
		return dropMalformed
	case !a.frame.untag():
		return dropVLAN
	case a.in.nic != nil:
		return fw.fromNIC(a)
	default:
		return fw.fromVNIC(a)
	}
}

func (fw *forwarder) fromNIC(a *arrival) (verdict dropReason) {
	switch a.frame.etherType() {
	case etherARP:
		return a.in.nic.link.handleARP(a.frame, a.now)
	case etherIPv4:
	default:
		return dropEtherType
	}
	if dst := a.frame.dstMAC(); dst.isGroup() {
		return dropGroup
	} else if dst != a.in.mac() {
		return dropNotForUs
	}
	if a.packet, verdict = parseIPv4(a.frame); verdict != keep {
		return verdict
	}
	if a.dst != a.in.nic.address {
		return dropNotForUs
	}
	return fw.carry(a)
}

func (fw *forwarder) fromVNIC(a *arrival) (verdict dropReason) {
	switch {
	case a.frame.etherType() == etherARP:
		return dropARP // neighbours of a segment are permanent: nothing to ask for
	case a.frame.etherType() != etherIPv4:
		return dropEtherType
	case a.frame.dstMAC().isGroup():
		return dropGroup
	}
	if a.packet, verdict = parseIPv4(a.frame); verdict != keep {
		return verdict
	}
	if a.src != a.in.vnic.address {
		return dropSource
	}
	return fw.carry(a)
}

// carry moves a packet to the other end of its flow.
func (fw *forwarder) carry(a *arrival) dropReason {
	switch {
	case !a.proto.carried():
		return fw.refuseProtocol(a)
	case a.fragment:
		return fw.carryFragment(a)
	case a.icmpError:
		return fw.carryError(a)
	}
	fl, dir, verdict := fw.flowOf(a)
	if fl == nil {
		return verdict
	}
	to, tuple := fl.otherEnd(dir)
	if mtu := to.linkMTU(); a.tooBig(mtu) {
		return fw.refuseTooBig(a, mtu)
	}
	a.own = dir == forward && a.in.vnic != nil
	a.rewrite(tuple, a.frame.checksumUnfinished())
	return a.leaveBy(to, tuple.dst)
}

// flowOf finds the flow of a packet, or opens one, and takes the packet into
// account there. The flow is valid until the next packet.
func (fw *forwarder) flowOf(a *arrival) (fl *flow, dir direction, verdict dropReason) {
	dir, known := fw.flows.find(&a.tuple, a.in.index, &a.found)
	if known {
		fl = &a.found
	}
	a.reopened = nil
	if fl != nil && fl.reopens(&a.packet) {
		a.reopened, fl = fl, nil
	}
	if fl == nil {
		if fl, verdict = fw.admit(a); fl == nil {
			return nil, forward, verdict
		}
		if dir = forward; fl.in != a.in {
			dir = reverse // it was picked up by an answer
		}
	}
	if before, after := fl.observe(&a.packet, dir, len(a.frame.eth()), a.now); before != after {
		fw.flows.moved(fl, before, after)
	}
	return fl, dir, keep
}

// leaveBy puts the rewritten frame on the way out of a port, with the MACs of its
// link: on a VNIC the source stays the one that the frame came with (A3), on a
// NIC it is the NIC's (A4).
func (a *arrival) leaveBy(p *port, dst addr) dropReason {
	mac := p.mac()
	if p.vnic != nil {
		copy(a.frame.eth(), mac[:])
		a.out.put(p, *a.frame)
		return keep
	}
	copy(a.frame.eth()[6:], mac[:])
	ready, verdict := p.nic.link.forward(a.frame, dst, a.own, a.now)
	if ready {
		a.out.put(p, *a.frame)
	}
	return verdict
}

// sendBack puts a frame of our own making on the way out of the port that a frame
// came in by, to where that came from.
func (a *arrival) sendBack(f frame) {
	answer := *a
	answer.frame = &f
	if a.in.vnic != nil {
		answer.out.put(a.in, f)
		return
	}
	if verdict := answer.leaveBy(a.in, a.src); verdict != keep {
		a.in.drops[verdict].Add(1)
	}
}

// tick does what time asks for: idle flows and unfinished fragments end.
func (fw *forwarder) tick(now int64, passed time.Duration) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	fw.flows.sweep(now, passed)
	fw.fragments.sweep(now)
	fw.endOrphans(now)
}
