package capture

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// captureBatch has frames of all devices. Each batch reuses the memory of the one before.
type captureBatch struct {
	frames []CapturedFrame
	memory []byte
}

// take takes the frames that wait at the devices. The devices share equally what all captures
// together may take now.
func (c *Capture) take() {
	now := time.Now()
	c.batch.frames, c.batch.memory = c.batch.frames[:0], c.batch.memory[:0]
	for i, point := range c.points {
		share := int(c.budget.bytes.TokensAt(now)) / (len(c.points) - i)
		used := 0
		point.source.Take(func(f *CapturedFrame) bool {
			if c.isEarly(f) {
				return true
			}
			f.point = i
			cost := FrameCost + len(f.Data)
			if used+cost > share || isNext(f, now) {
				return false
			}
			used += cost
			c.batch.add(f)
			return true
		})
		c.budget.bytes.AllowN(now, used)
	}
	c.grant(now)
	slices.SortStableFunc(c.batch.frames, func(a, b CapturedFrame) int { return cmp.Compare(a.time, b.time) })
}

// grant tells each device its share of what may be taken at the next tick.
func (c *Capture) grant(now time.Time) {
	share := int(c.budget.bytes.TokensAt(now)) / len(c.points)
	for _, point := range c.points {
		point.source.Grant(share)
	}
}

// isEarly tells whether a frame passed before all sources were open. The first ones that were open may have
// such frames, and the capture must begin at the same time at all devices.
func (c *Capture) isEarly(f *CapturedFrame) bool {
	return f.time >= c.opened.UnixNano() && f.time < c.began.UnixNano()
}

// isNext tells whether a frame passed after the batch began. Such a frame is left for the
// next batch, which may have older frames of other devices. A frame that is a tick or more
// ahead is taken nevertheless, because somebody has set the clock.
func isNext(f *CapturedFrame, began time.Time) bool {
	after := time.Duration(f.time - began.UnixNano())
	return after > 0 && after < captureTick
}

// add copies a frame. If the memory grows, frames that were copied before stay where they
// are.
func (b *captureBatch) add(f *CapturedFrame) {
	start := len(b.memory)
	b.memory = append(b.memory, f.Data...)
	copied := *f
	copied.Data = b.memory[start:len(b.memory):len(b.memory)]
	b.frames = append(b.frames, copied)
}

// write writes those frames of the batch that belong to the capture, and empties the batch.
func (c *Capture) write() {
	for i := range c.batch.frames {
		f := &c.batch.frames[i]
		if c.complete() {
			break
		}
		if c.wants(f) {
			c.file.packet(f)
			c.points[f.point].delivered++
			c.count++
		}
	}
	c.batch.frames = c.batch.frames[:0]
}

// wants tells whether a frame belongs to the capture. At devices other than the target, only
// frames of the target's flows do.
func (c *Capture) wants(f *CapturedFrame) bool {
	p := c.points[f.point].iface
	fl := c.flowOf(p, f)
	if fl == nil {
		return p == c.target && (!c.opts.Client.IsValid() || c.names(f))
	}
	return (c.isTarget(fl.In) || c.isTarget(fl.Out)) &&
		(!c.opts.Client.IsValid() || c.opts.Client.Contains(fl.Orig.Src.Netip()))
}

// isTarget tells whether an iface is one of the target's device.
func (c *Capture) isTarget(p *iface.Iface) bool { return p == c.target || p == c.target.V6 }

// flowOf finds the flow of a frame, or nil. The flow table has the tuples of packets that
// come in at a device, so the tuple of a frame that goes out is reversed first.
func (c *Capture) flowOf(p *iface.Iface, f *CapturedFrame) *flow.Flow {
	switch {
	case f.tagged:
		return nil
	case etherTypeOf(f.Data) == packet.EtherIPv6 && p.V6 != nil:
		p = p.V6
	case etherTypeOf(f.Data) != packet.EtherIPv4:
		return nil
	}
	t, ok := flowTuple(f.Data[packet.EthHeaderLen:])
	if !ok {
		return nil
	}
	if f.Inbound != (p.NIC != nil) {
		t = t.Reversed()
	}
	fl, _ := c.lookup(flow.Key{Tuple: t, Iface: p.Index})
	return fl
}

func etherTypeOf(eth []byte) uint16 {
	if len(eth) < packet.EthHeaderLen {
		return 0
	}
	return binary.BigEndian.Uint16(eth[12:])
}

// flowTuple reads the tuple of the flow that a packet, or the packet quoted in an ICMP error,
// belongs to. The packet may be cut short.
func flowTuple(ip []byte) (t packet.Tuple, ok bool) {
	var p packet.Packet
	if p.ParseHeader(ip) != packet.Keep || p.Later {
		return t, false
	}
	switch p.Proto {
	case config.TCP, config.UDP:
		if len(p.L4) < 4 {
			return t, false
		}
		p.SetPorts()
	case config.ICMP:
		if p.ParseICMP() != packet.Keep {
			return t, false
		}
		if p.ICMPError {
			quoted, ok := packet.ParseQuote(p.L4[packet.ICMPHeaderLen:])
			return quoted.Reversed(), ok // an error goes the way of the answers
		}
	default:
		return t, false
	}
	return p.Tuple, true
}

// addressesAt are the places of the addresses behind an Ethernet header, of IPv6 with that of
// NDP's target.
var addressesAt = map[uint16][]int{packet.EtherIPv4: {12, 16}, packet.EtherARP: {14, 24}, packet.EtherIPv6: {8, 24, 48}}

// names tells whether a frame without a flow is from, to or about the client's network.
func (c *Capture) names(f *CapturedFrame) bool {
	kind := etherTypeOf(f.Data)
	length := 4
	if kind == packet.EtherIPv6 {
		length = 16
	}
	for _, at := range addressesAt[kind] {
		at += packet.EthHeaderLen
		if len(f.Data) < at+length || kind == packet.EtherIPv6 && at == ndpTarget && !isSolicitation(f.Data) {
			continue
		}
		if a, _ := netip.AddrFromSlice(f.Data[at:][:length]); c.opts.Client.Contains(a) {
			return true
		}
	}
	return false
}

// ndpTarget is the offset in a frame of the address that a message of NDP is about
// (RFC 4861 §4.3 and §4.4).
const ndpTarget = packet.EthHeaderLen + 48

// isSolicitation tells whether a frame of IPv6 is a Neighbor Solicitation or Advertisement.
func isSolicitation(eth []byte) bool {
	const icmpv6, solicitation, advertisement = 58, 135, 136
	ip := eth[packet.EthHeaderLen:]
	return ip[6] == icmpv6 && (ip[40] == solicitation || ip[40] == advertisement)
}
