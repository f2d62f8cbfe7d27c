package iface

import (
	"net/netip"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Iface is a place at which frames come and go, and at which flows begin and end. It
// survives reloads as long as a configuration wants its device. The device may be replaced.
type Iface struct {
	Index  uint32 // in flow keys; above 0 and below Max
	Name   string // of the device, or what the log calls it
	dev    atomic.Pointer[Device]
	hw     atomic.Pointer[config.MAC]
	MTU    atomic.Int32
	Closed atomic.Bool
	Counters
	Gauge atomic.Pointer[Gauges] // in the memory of the flow table in use

	// One of the two is set.
	NIC  *NICSide
	VNIC *VNICSide
}

// NICSide is what only the iface of a NIC has.
type NICSide struct {
	Address packet.Addr  // the pseudo address
	Network netip.Prefix // the link's network, which contains the address
	Link    Link
}

// Link is the network to which a NIC is attached.
type Link interface {
	// Forward writes the MAC of the next hop to dst into a frame. own tells that a segment
	// opened the frame's flow. If ready is false, the caller must not send the frame: it
	// waits until the next hop is resolved (Keep), or is dropped for the verdict's reason.
	// now is the plane's clock, in ns.
	Forward(f *packet.Frame, dst packet.Addr, own bool, now int64) (ready bool, verdict packet.DropReason)
	// HandleARP answers for the pseudo address and learns the MACs of other hosts.
	HandleARP(f *packet.Frame, now int64) packet.DropReason
	// Router returns the gateway and its MAC: NoAddr if there is no gateway, a zero MAC
	// until the gateway is resolved.
	Router() (gateway packet.Addr, mac config.MAC)
	// TellAll tells a new kernel path the MACs of all hosts to which frames go.
	TellAll()
	// Tick sends what is due: announcements and ARP requests. It is called several times a
	// second.
	Tick(now int64)
}

// VNICSide is what only the iface of a VNIC has.
type VNICSide struct {
	Segment string
	Address packet.Addr // the segment's own address
}

// Device returns the device. It panics before the first SetDevice.
func (p *Iface) Device() Device { return *p.dev.Load() }

// SetDevice sets or replaces the device.
func (p *Iface) SetDevice(d Device) { p.dev.Store(&d) }

// Max bounds the indexes of ifaces. Index 0 stands for none, so there are at most Max-1
// ifaces at once.
const Max = 1024

// New returns an iface without a device and MAC.
func New(index uint32, name string) *Iface {
	p := &Iface{Index: index, Name: name}
	p.Gauge.Store(new(Gauges))
	return p
}

// Gauges returns the gauges in use. They move when the flows move to another table.
func (p *Iface) Gauges() *Gauges { return p.Gauge.Load() }

// MAC returns the MAC of the device. It panics before the first SetMAC.
func (p *Iface) MAC() config.MAC { return *p.hw.Load() }

// SetMAC sets the MAC of the device.
func (p *Iface) SetMAC(m config.MAC) { p.hw.Store(&m) }

// LinkMTU returns the size of the largest IP packet that the iface's link carries, in
// bytes. It is 0 for a VNIC, because a segment's stack accepts packets of any size.
func (p *Iface) LinkMTU() int {
	if p.VNIC != nil {
		return 0
	}
	return int(p.MTU.Load())
}

// Transmit sends frames and counts them. A frame that the device refuses is a DropSend.
func (p *Iface) Transmit(frames []packet.Frame) {
	sent := p.Device().Send(frames)
	for _, f := range frames[:sent] {
		p.bytesOut.Add(uint64(len(f.Eth())))
	}
	p.packetsOut.Add(uint64(sent))
	p.Drops[packet.DropSend].Add(uint64(len(frames) - sent))
}

// CountLeftOut counts the frames that the device of a NIC has dropped since the last call.
func (p *Iface) CountLeftOut() {
	for reason, t := range p.Device().(NICDevice).LeftOut() {
		p.PacketsIn.Add(t.Packets)
		p.BytesIn.Add(t.Bytes)
		p.Drops[reason].Add(t.Packets)
	}
}
