package iface

import (
	"net/netip"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Iface is a place at which frames come and go, and at which flows begin and end. It
// survives reloads as long as a configuration wants its device. The device may be replaced.
//
// A device has one iface for each family of addresses that it has, so that a flow, which is
// between two ifaces, never changes its family. The iface for IPv4 also stands for the device
// as a whole, and is there even if the device has no IPv4 address.
type Iface struct {
	Index  uint32 // in flow keys; above 0 and below Max
	Name   string // of the device, or what the log calls it
	Family config.Family
	dev    atomic.Pointer[Device]
	hw     atomic.Pointer[config.MAC]
	MTU    atomic.Int32
	Closed atomic.Bool
	Paced  atomic.Uint32 // of a VNIC whose segment has a limit of rates: the number of its limits; else 0
	Counters
	Gauge atomic.Pointer[Gauges] // in the memory of the flow table in use

	// One of the two is set.
	NIC  *NICSide
	VNIC *VNICSide

	V6 *Iface // the device's iface for IPv6; nil: the device has no IPv6 address
	V4 *Iface // of an iface for IPv6: the device's for IPv4
}

// twin returns the device's iface for the other family, or nil.
func (p *Iface) twin() *Iface {
	if p.V4 != nil {
		return p.V4
	}
	return p.V6
}

// TwinIndex returns the index of the device's iface for the other family, or 0.
func (p *Iface) TwinIndex() uint32 {
	if other := p.twin(); other != nil {
		return other.Index
	}
	return 0
}

// Load returns how many flows of both families the device has that are not closing.
func (p *Iface) Load() int64 {
	load := p.Gauges().Load.Load()
	if other := p.twin(); other != nil {
		load += other.Gauges().Load.Load()
	}
	return load
}

// Of returns the iface of the device for a family. It is nil if the device has no address of
// the family.
func (p *Iface) Of(f config.Family) *Iface {
	if f == config.IPv6 {
		return p.V6
	}
	if p.Address() == packet.NoAddr {
		return nil
	}
	return p
}

// Each returns all ifaces of the device.
func (p *Iface) Each() []*Iface {
	if p.V6 == nil {
		return []*Iface{p}
	}
	return []*Iface{p, p.V6}
}

// First returns the iface of the first family of which the device has an address.
func (p *Iface) First() *Iface {
	if own := p.Of(config.IPv4); own != nil || p.V6 == nil {
		return p
	}
	return p.V6
}

// Address returns the only address of ours that packets at the iface have: the pseudo
// address, or the segment's own.
func (p *Iface) Address() packet.Addr {
	if p.NIC != nil {
		return p.NIC.Address
	}
	return p.VNIC.Address
}

// NICSide is what only the iface of a NIC has.
type NICSide struct {
	Address packet.Addr  // the pseudo address; NoAddr: there is none
	Network netip.Prefix // the link's network, which contains the address
	Routed  atomic.Bool  // routers send the address to the machine's own one, and the link is not told of it (H9)
	Link    Link
}

// Link is the network to which a NIC is attached, or a device behind which a segment's server is.
type Link interface {
	// Forward writes the MAC of the next hop to dst into a frame. own tells that a segment
	// opened the frame's flow. If ready is false, the caller must not send the frame: it
	// waits until the next hop is resolved (Keep), or is dropped for the verdict's reason.
	// now is the plane's clock, in ns.
	Forward(f *packet.Frame, dst packet.Addr, own bool, now int64) (ready bool, verdict packet.DropReason)
	// HandleNeighbour handles a message of ARP, or of NDP and MLD: it answers for the pseudo
	// address, or the segment's aliases, and learns the MACs of other hosts.
	HandleNeighbour(f *packet.Frame, now int64) packet.DropReason
	// Router returns the gateway and its MAC: NoAddr if there is no gateway, a zero MAC
	// until the gateway is resolved. Behind a device, the server is in the gateway's place.
	Router() (gateway packet.Addr, mac config.MAC)
	// TellAll tells a new kernel path the MACs of all hosts to which frames go.
	TellAll()
	// Tick sends what is due: announcements and requests. It is called several times a
	// second.
	Tick(now int64)
	// Close tells the link that the NIC leaves. It is called before the device is closed.
	Close()
}

// VNICSide is what only the iface of a VNIC has.
type VNICSide struct {
	Segment string
	Address packet.Addr // the segment's own; NoAddr: there is none

	// Remote is set if the server is behind a device, and the iface's MAC is the bridge's on that
	// device. Link then resolves the server's; it is nil if there is no address.
	Remote bool
	Link   Link
	own    atomic.Pointer[config.MAC] // the device's own MAC, if Remote
}

// Link returns the link on which the next hop of a frame is resolved. It is nil for a VNIC,
// because all frames there go to the VNIC itself.
func (p *Iface) Link() Link {
	if p.NIC != nil {
		return p.NIC.Link
	}
	return p.VNIC.Link
}

// HasLink tells whether frames leave by the iface with its own MAC, to a next hop.
func (p *Iface) HasLink() bool { return p.NIC != nil || p.VNIC.Remote }

// Device returns the device. It panics before the first SetDevice.
func (p *Iface) Device() Device { return *p.dev.Load() }

// SetDevice sets or replaces the device, of all its ifaces.
func (p *Iface) SetDevice(d Device) {
	for _, own := range p.Each() {
		own.dev.Store(&d)
	}
}

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

// StandsBy tells whether another machine has the pseudo address of the NIC, or the aliases behind
// the device.
func (p *Iface) StandsBy() bool { return p.Gauges().Standby.Load() != 0 }

// Unclaimed tells whether the link is not told that the pseudo address is here.
func (p *Iface) Unclaimed() bool { return p.StandsBy() || p.NIC.Routed.Load() }

// MAC returns the MAC of the device. It panics before the first SetMAC.
func (p *Iface) MAC() config.MAC { return *p.hw.Load() }

// SetMAC sets the MAC of the device, for all its ifaces.
func (p *Iface) SetMAC(m config.MAC) {
	for _, own := range p.Each() {
		own.hw.Store(&m)
	}
}

// SetOwnMAC sets the own MAC of the device of a remote segment, for all its ifaces.
func (p *Iface) SetOwnMAC(m config.MAC) {
	for _, own := range p.Each() {
		own.VNIC.own.Store(&m)
	}
}

// OwnMAC returns the own MAC of the device of a remote segment. It is zero before the first
// SetOwnMAC.
func (p *Iface) OwnMAC() (m config.MAC) {
	if own := p.VNIC.own.Load(); own != nil {
		m = *own
	}
	return m
}

// SourceMAC returns the MAC from which frames leave by the iface. While another machine has the
// aliases behind a device, that machine has the bridge's MAC there too, and frames leave from the
// device's own MAC, so that switches still find the bridge's at the other machine (H2).
func (p *Iface) SourceMAC() config.MAC {
	if p.VNIC != nil && p.VNIC.Remote && p.StandsBy() {
		return p.OwnMAC()
	}
	return p.MAC()
}

// SetMTU sets the MTU of the device's link in bytes, for all its ifaces, and returns the one
// before.
func (p *Iface) SetMTU(mtu int) (before int) {
	before = int(p.MTU.Load())
	for _, own := range p.Each() {
		own.MTU.Store(int32(mtu))
	}
	return before
}

// LinkMTU returns the size of the largest IP packet that the iface's link carries, in
// bytes. It is 0 for a VNIC, because a segment's stack accepts packets of any size.
func (p *Iface) LinkMTU() int {
	if !p.HasLink() {
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
