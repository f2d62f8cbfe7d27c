package userspace

import (
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
// packets must not keep senders from learning the path MTU.
type answerLimits struct {
	refusals, tooBig *rate.Limiter
}

func newAnswerLimits() *answerLimits {
	limiter := func() *rate.Limiter { return rate.NewLimiter(RefusalRate, RefusalBurst) }
	return &answerLimits{limiter(), limiter()}
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
// a RST to TCP, and destination unreachable to everything else. ok is false if there must be
// no answer: to a RST (RFC 9293 §3.5.2), to an echo reply, or beyond the rate limit.
func (fw *Forwarder) refusal(a *Arrival) (f packet.Frame, ok bool) {
	if a.Proto == config.TCP && a.TCPFlags&packet.TCPRST != 0 || a.Proto == config.ICMP && a.L4[0] != packet.ICMPEcho || !a.allows(fw.limits(a.In).refusals) {
		return packet.Frame{}, false
	}
	switch a.Proto {
	case config.TCP:
		return a.resetFrame(), true
	case config.UDP:
		return a.unreachable(layers.ICMPv4CodePort, 0), true
	case config.ICMP:
		return a.unreachable(layers.ICMPv4CodeHost, 0), true // an echo has no port
	default:
		return a.unreachable(layers.ICMPv4CodeProtocol, 0), true
	}
}

// fragmentationNeeded returns the answer to a packet that is too big for the next link
// (RFC 1191 §4). ok is false beyond the rate limit.
func (fw *Forwarder) fragmentationNeeded(a *Arrival, mtu int) (f packet.Frame, ok bool) {
	if !a.allows(fw.limits(a.In).tooBig) {
		return packet.Frame{}, false
	}
	return a.unreachable(layers.ICMPv4CodeFragmentationNeeded, uint16(mtu)), true
}

// answerHeader returns the IP header of an answer to a packet. The source is the address to
// which the packet was sent.
func (a *Arrival) answerHeader(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: proto,
		SrcIP: a.Dst.V4(), DstIP: a.Src.V4(),
	}
}

func (a *Arrival) unreachable(code uint8, mtu uint16) packet.Frame {
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(packet.ICMPUnreachable, code), Seq: mtu}
	return packet.BuildFrame(a.Frame.DstMAC(), a.Frame.SrcMAC(), layers.EthernetTypeIPv4,
		a.answerHeader(layers.IPProtocolICMPv4), icmp, gopacket.Payload(a.Quote()))
}
