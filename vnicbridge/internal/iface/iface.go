package iface

import (
	"net/netip"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Iface is a device in its place: frames come in and go out by it, flows begin and
// end at it. An iface outlives reloads for as long as its device is wanted.
type Iface struct {
	Index  uint32 // in flow keys; above 0 and below Max
	Name   string // of the device, or what the device stands for in the log
	dev    atomic.Pointer[Device]
	hw     atomic.Pointer[config.MAC]
	MTU    atomic.Int32
	Closed atomic.Bool
	Counters
	Gauge atomic.Pointer[Gauges]

	NIC  *NICSide  // of a NIC's iface
	VNIC *VNICSide // of a VNIC's iface
}

// NICSide is what an iface is when its device is a NIC.
type NICSide struct {
	Address packet.Addr  // the pseudo address
	Network netip.Prefix // that the address is of
	Link    Link
}

// Link is the network outside, as a NIC reaches it.
type Link interface {
	// Forward gives a frame for a destination its next hop's MAC. own says that the
	// frame is of a flow that a segment has opened. A false ready means that the frame
	// is not sent now: it waits for an answer, or the verdict says why it never will be.
	Forward(f *packet.Frame, dst packet.Addr, own bool, now int64) (ready bool, verdict packet.DropReason)
	// HandleARP answers for the pseudo address and learns the MACs of other hosts.
	HandleARP(f *packet.Frame, now int64) packet.DropReason
	// Router returns the gateway and its MAC, as far as they are known.
	Router() (gateway packet.Addr, mac config.MAC)
	// TellAll tells a new kernel path to which hosts frames go.
	TellAll()
	// Tick does what time asks for.
	Tick(now int64)
}

// VNICSide is what an iface is when its device is a VNIC.
type VNICSide struct {
	Segment string
	Address packet.Addr
}

func (p *Iface) Device() Device { return *p.dev.Load() }

func (p *Iface) SetDevice(d Device) { p.dev.Store(&d) }

// Max is one more than the most devices that there can be at once.
const Max = 1024

func New(index uint32, name string) *Iface {
	p := &Iface{Index: index, Name: name}
	p.Gauge.Store(new(Gauges))
	return p
}

func (p *Iface) Gauges() *Gauges { return p.Gauge.Load() }

func (p *Iface) MAC() config.MAC { return *p.hw.Load() }

func (p *Iface) SetMAC(m config.MAC) { p.hw.Store(&m) }

// LinkMTU is the largest packet that the iface's link takes, or 0 for any: a
// segment's stack takes what it gets.
func (p *Iface) LinkMTU() int {
	if p.VNIC != nil {
		return 0
	}
	return int(p.MTU.Load())
}

// Transmit sends frames and counts them.
func (p *Iface) Transmit(frames []packet.Frame) {
	sent := p.Device().Send(frames)
	for _, f := range frames[:sent] {
		p.bytesOut.Add(uint64(len(f.Eth())))
	}
	p.packetsOut.Add(uint64(sent))
	p.Drops[packet.DropSend].Add(uint64(len(frames) - sent))
}

// CountLeftOut counts the frames that a NIC itself has dropped since the last call.
func (p *Iface) CountLeftOut() {
	for reason, t := range p.Device().(NICDevice).LeftOut() {
		p.PacketsIn.Add(t.Packets)
		p.BytesIn.Add(t.Bytes)
		p.Drops[reason].Add(t.Packets)
	}
}
