package userspace

import (
	"encoding/binary"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/time/rate"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// The rate limit of answers of each kind to packets that come in at one iface. A flood is
// not answered with a flood (RFC 1812 §4.3.2.8).
const (
	RefusalRate  = 1000 // a second
	RefusalBurst = 1000
)

// answerLimits rate-limit the forwarder's answers to packets that come in at an iface. There
// is a separate limit for answers that a packet is too big, because a flood of refused
// packets must not keep senders from learning the path MTU. strangeErrors limits no answers,
// but ICMP errors about unknown flows.
type answerLimits struct {
	refusals, tooBig, strangeErrors *rate.Limiter
}

func newAnswerLimits() *answerLimits {
	limiter := func() *rate.Limiter { return rate.NewLimiter(RefusalRate, RefusalBurst) }
	return &answerLimits{limiter(), limiter(), rate.NewLimiter(StrangeErrorRate, StrangeErrorRate)}
}

// limits returns the limits of an iface. A later iface with the same number inherits them.
func (fw *Forwarder) limits(p *iface.Iface) *answerLimits {
	l := &fw.Answers[p.Index]
	if l.Load() == nil {
		l.CompareAndSwap(nil, newAnswerLimits())
	}
	return l.Load()
}

// allows tells whether one more answer to the packet may be sent now.
func (a *Arrival) allows(limit *rate.Limiter) bool { return limit.AllowN(time.Unix(0, a.Now), 1) }

// refusal returns the answer to a packet that is refused, so that no client hangs (F5, F11):
// a RST to TCP, and an ICMP error to everything else. ok is false if there must be no answer
// or the rate limit is reached.
func (fw *Forwarder) refusal(a *Arrival) (f packet.Frame, ok bool) {
	if !a.answerable() || !a.allows(fw.limits(a.In).refusals) {
		return packet.Frame{}, false
	}
	if a.Proto == config.TCP {
		return a.resetFrame(), true
	}
	return a.errorFrame(a.refusalError()), true
}

// answerable tells whether a packet that is refused may be answered at all: not a RST
// (RFC 9293 §3.5.2), not an echo reply, nothing from or to a group or no address (RFC 1122
// §3.2.2, RFC 4443 §2.4 e). In IPv6, senders of protocols that are not carried learn nothing,
// except that routing headers are refused (F13). The packet is no ICMP error.
func (a *Arrival) answerable() bool {
	if !a.Src.IsUnicast() || !a.Dst.IsUnicast() {
		return false
	}
	switch a.Proto {
	case config.TCP:
		return a.TCPFlags&packet.TCPRST == 0
	case config.UDP:
		return true
	case config.ICMP:
		return a.IsEchoRequest()
	}
	_, routes := a.RoutesOn()
	return routes || a.In.Family == config.IPv4
}

// icmpError is an ICMP error about a packet.
type icmpError struct {
	kind, code uint8  // of the family of the packet
	value      uint32 // what stands behind the checksum: an MTU or a pointer
}

// refusalError returns the error that answers a refused packet of a protocol other than TCP.
func (a *Arrival) refusalError() icmpError {
	if a.In.Family == config.IPv6 {
		return a.refusalErrorIPv6()
	}
	switch a.Proto {
	case config.UDP:
		return icmpError{kind: packet.ICMPUnreachable, code: packet.ICMPPortUnreachable}
	case config.ICMP: // an echo has no port
		return icmpError{kind: packet.ICMPUnreachable, code: packet.ICMPHostUnreachable}
	default:
		return icmpError{kind: packet.ICMPUnreachable, code: packet.ICMPProtocolUnreachable}
	}
}

func (a *Arrival) refusalErrorIPv6() icmpError {
	switch a.Proto {
	case config.UDP:
		return icmpError{kind: packet.ICMPv6Unreachable, code: packet.ICMPv6PortUnreachable}
	case config.ICMP:
		return icmpError{kind: packet.ICMPv6Unreachable, code: packet.ICMPv6AddressUnreachable}
	default:
		pointer, _ := a.RoutesOn()
		return icmpError{kind: packet.ICMPv6ParameterProblem, value: pointer} // code 0: a wrong field
	}
}

// tooBigAnswer returns the answer to a packet that is too big for the next link (RFC 1191 §4,
// RFC 4443 §3.2). ok is false beyond the rate limit.
func (fw *Forwarder) tooBigAnswer(a *Arrival, mtu int) (f packet.Frame, ok bool) {
	if !a.allows(fw.limits(a.In).tooBig) {
		return packet.Frame{}, false
	}
	e := icmpError{kind: packet.ICMPUnreachable, code: packet.ICMPFragmentationNeeded, value: uint32(mtu)}
	if a.In.Family == config.IPv6 {
		e.kind, e.code = packet.ICMPv6PacketTooBig, 0
	}
	return a.errorFrame(e), true
}

// errorFrame returns the frame of an ICMP error about the packet. The source is the address
// to which the packet was sent.
func (a *Arrival) errorFrame(e icmpError) packet.Frame {
	ip := packet.IPHeader(a.Dst, a.Src, config.ICMP)
	body := gopacket.Payload(append(binary.BigEndian.AppendUint32(nil, e.value), a.Quote()...))
	if a.In.Family == config.IPv4 {
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(e.kind, e.code), Seq: uint16(e.value)}
		return a.answerFrame(ip, icmp, body[4:])
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(e.kind, e.code)}
	// This fails only for a network layer other than IP.
	_ = icmp.SetNetworkLayerForChecksum(ip)
	return a.answerFrame(ip, icmp, body)
}

// answerFrame builds the frame of an answer to the packet. On a NIC, the link sets both MACs.
func (a *Arrival) answerFrame(ip packet.IPLayer, payload ...gopacket.SerializableLayer) packet.Frame {
	return packet.BuildPacket(a.Frame.DstMAC(), a.answerMAC(), ip, payload...)
}

// answerSegment is answerFrame for a TCP segment.
func (a *Arrival) answerSegment(s packet.Segment) packet.Frame {
	return s.Frame(a.Frame.DstMAC(), a.answerMAC())
}

// answerMAC returns the MAC to which an answer to a segment's packet goes: the VNIC's, whatever
// source MAC the segment has used (A3). Behind a device it is the server's, which has sent the
// packet.
func (a *Arrival) answerMAC() config.MAC {
	if a.In.VNIC != nil && a.In.VNIC.Remote {
		return a.Frame.SrcMAC()
	}
	return a.In.MAC()
}
