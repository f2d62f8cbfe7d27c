package vnicbridge

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// forwarder is the userspace data path: it takes the frames that come in at the
// ports, finds or opens their flows, rewrites them and sends them on.
type forwarder struct {
	flows  *flowTable
	rules  atomic.Pointer[ruleset]
	open   *openPorts
	clock  func() int64 // nanoseconds, monotonic
	refuse *refuser
	log    *slog.Logger
}

// batchSize is how many frames are taken from a device at once.
const batchSize = 64

// run carries what comes in at a port until its device is closed.
func (fw *forwarder) run(in *port) error {
	batch := make([]frame, batchSize)
	var out outbox
	for {
		n, err := in.dev.receive(batch)
		if err != nil {
			return err
		}
		now := fw.clock()
		for i := range batch[:n] {
			fw.receive(in, &batch[i], now, &out)
		}
		out.flush()
	}
}

// receive handles one frame and counts it.
func (fw *forwarder) receive(in *port, f *frame, now int64, out *outbox) {
	in.packetsIn.Add(1)
	in.bytesIn.Add(uint64(len(f.data) - vnetHeaderLen))
	var verdict dropReason
	switch {
	case len(f.eth()) < ethHeaderLen:
		verdict = dropMalformed
	case f.tagged || f.etherType() == etherVLAN || f.etherType() == etherQinQ:
		verdict = dropVLAN
	case in.nic != nil:
		verdict = fw.fromNIC(in, f, now, out)
	default:
		verdict = fw.fromVNIC(in, f, now, out)
	}
	if verdict != keep {
		in.drops[verdict].Add(1)
	}
}

func (fw *forwarder) fromNIC(in *port, f *frame, now int64, out *outbox) dropReason {
	switch f.etherType() {
	case etherARP:
		return in.nic.handleARP(f, now)
	case etherIPv4:
	default:
		return dropEtherType
	}
	if dst := f.dstMAC(); !dst.IsUnicast() {
		return dropGroup
	} else if dst != in.mac() {
		return dropNotForUs
	}
	p, verdict := parseIPv4(f)
	if verdict != keep {
		return verdict
	}
	if p.dst != in.nic.address {
		return dropNotForUs
	}
	return fw.carry(in, f, &p, now, out, fw.admitInbound)
}

func (fw *forwarder) fromVNIC(in *port, f *frame, now int64, out *outbox) dropReason {
	switch {
	case f.etherType() == etherARP:
		return dropARP // neighbours of a segment are permanent: nothing to ask for
	case f.etherType() != etherIPv4:
		return dropEtherType
	case !f.dstMAC().IsUnicast():
		return dropGroup
	}
	p, verdict := parseIPv4(f)
	if verdict != keep {
		return verdict
	}
	if p.src != in.vnic.address {
		return dropSource
	}
	return fw.carry(in, f, &p, now, out, fw.admitOutbound)
}

// handleARP answers for the pseudo address and learns the neighbours' MACs.
func (n *nicSide) handleARP(f *frame, now int64) dropReason {
	m, err := parseARP(f)
	if err != nil {
		return dropMalformed
	}
	asked := n.claim.handle(m, now)
	if m.sender != noAddr && m.sender != n.address {
		n.neighbours.hear(m.sender, m.senderMAC, asked, now)
	}
	if m.target != n.address && m.sender != n.address {
		return dropARP
	}
	return keep
}

// admit opens a flow for the first packet of one, or says why there is none.
type admit func(in *port, f *frame, p *packet, now int64, out *outbox) (*flow, dropReason)

// carry moves a packet to the other end of its flow.
func (fw *forwarder) carry(in *port, f *frame, p *packet, now int64, out *outbox, admit admit) dropReason {
	fl, dir := fw.flows.lookup(flowKey{p.tuple, in.index})
	if fl != nil && fl.reopens(p) {
		fw.flows.remove(fl)
		fl = nil
	}
	if fl == nil {
		var verdict dropReason
		if fl, verdict = admit(in, f, p, now, out); fl == nil {
			return verdict
		}
		dir = forward
	}
	if fl.observe(p, dir, len(f.eth()), now) {
		fw.flows.moved(fl)
	}
	to, tuple := fl.otherEnd(dir)
	p.rewrite(tuple, f.checksumUnfinished())
	return to.emit(f, tuple.dst, now, out)
}

// emit puts a rewritten frame on the way out of a port, with the MACs of its
// link: on a VNIC the source stays the one that the frame came with (A3), on a
// NIC it is the NIC's (A4).
func (p *port) emit(f *frame, dst addr, now int64, out *outbox) dropReason {
	mac := p.mac()
	if p.vnic != nil {
		copy(f.eth(), mac[:])
		out.put(p, *f)
		return keep
	}
	copy(f.eth()[6:], mac[:])
	ready, verdict := p.nic.neighbours.forward(f, dst, now)
	if ready {
		out.put(p, *f)
	}
	return verdict
}

// tick does what time asks for: idle flows end.
func (fw *forwarder) tick(now int64, passed time.Duration) {
	fw.flows.sweep(now, passed)
}
