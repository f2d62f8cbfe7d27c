package vnicbridge

import (
	"net/netip"
	"sync/atomic"
)

// port is a device in its place: frames come in and go out by it, flows begin and
// end at it. A port outlives reloads for as long as its device is wanted.
type port struct {
	index  uint32 // in flow keys; above 0 and below maxPorts
	name   string // of the device, or what the device stands for in the log
	dev    atomic.Pointer[device]
	hw     atomic.Pointer[MAC]
	mtu    atomic.Int32
	closed atomic.Bool
	counters
	gauge atomic.Pointer[gauges]

	nic  *nicSide  // of a NIC's port
	vnic *vnicSide // of a VNIC's port
}

// nicSide is what a port is when its device is a NIC.
type nicSide struct {
	address addr         // the pseudo address
	network netip.Prefix // that the address is of
	link    nicLink
}

// nicLink is the network outside, as a NIC reaches it.
type nicLink interface {
	// forward gives a frame for a destination its next hop's MAC. own says that the
	// frame is of a flow that a segment has opened. A false ready means that the frame
	// is not sent now: it waits for an answer, or the verdict says why it never will be.
	forward(f *frame, dst addr, own bool, now int64) (ready bool, verdict dropReason)
	// handleARP answers for the pseudo address and learns the MACs of other hosts.
	handleARP(f *frame, now int64) dropReason
	// router returns the gateway and its MAC, as far as they are known.
	router() (gateway addr, mac MAC)
	// tellAll tells a new kernel path to which hosts frames go.
	tellAll()
	// tick does what time asks for.
	tick(now int64)
}

// vnicSide is what a port is when its device is a VNIC.
type vnicSide struct {
	segment string
	address addr
}

func (p *port) device() device { return *p.dev.Load() }

func (p *port) setDevice(d device) { p.dev.Store(&d) }

// maxPorts is one more than the most devices that there can be at once.
const maxPorts = 1024

func newPort(index uint32, name string) *port {
	p := &port{index: index, name: name}
	p.gauge.Store(new(gauges))
	return p
}

func (p *port) gauges() *gauges { return p.gauge.Load() }

func (p *port) mac() MAC { return *p.hw.Load() }

func (p *port) setMAC(m MAC) { p.hw.Store(&m) }

// linkMTU is the largest packet that the port's link takes, or 0 for any: a
// segment's stack takes what it gets.
func (p *port) linkMTU() int {
	if p.vnic != nil {
		return 0
	}
	return int(p.mtu.Load())
}

// transmit sends frames and counts them.
func (p *port) transmit(frames []frame) {
	sent := p.device().send(frames)
	for _, f := range frames[:sent] {
		p.bytesOut.Add(uint64(len(f.eth())))
	}
	p.packetsOut.Add(uint64(sent))
	p.drops[dropSend].Add(uint64(len(frames) - sent))
}

// countLeftOut counts the frames that a NIC itself has dropped since the last call.
func (p *port) countLeftOut() {
	for reason, t := range p.device().(nicDevice).leftOut() {
		p.packetsIn.Add(t.packets)
		p.bytesIn.Add(t.bytes)
		p.drops[reason].Add(t.packets)
	}
}
