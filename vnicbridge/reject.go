package vnicbridge

import (
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/time/rate"
)

// refusalRate bounds how many refusals are sent in a second, so that a flood is
// not answered with a flood (RFC 1812 §4.3.2.8).
const (
	refusalRate  = 1000
	refusalBurst = 1000
)

// refuser answers packets that nothing will be done with, so that no client is
// left hanging (F5, F11).
type refuser struct {
	limit *rate.Limiter
}

func newRefuser() *refuser {
	return &refuser{limit: rate.NewLimiter(refusalRate, refusalBurst)}
}

// allow tells whether one more may be sent now.
func (r *refuser) allow(now int64) bool { return r.limit.AllowN(time.Unix(0, now), 1) }

// refusal builds the answer to a packet, towards the place it came from: a RST
// to TCP, destination unreachable to the rest. ok is false where there must be
// none: to a RST (RFC 9293 §3.5.2), to an answer, or beyond the rate.
func (r *refuser) refusal(a *arrival) (f frame, ok bool) {
	if a.proto == TCP && a.tcpFlags&tcpRST != 0 || a.proto == ICMP && a.l4[0] != icmpEcho || !r.allow(a.now) {
		return frame{}, false
	}
	if a.proto == TCP {
		ip := a.answerHeader(layers.IPProtocolTCP)
		return buildFrame(a.frame.dstMAC(), a.frame.srcMAC(), layers.EthernetTypeIPv4, ip, a.reset(ip)), true
	}
	code := uint8(layers.ICMPv4CodePort)
	if a.proto == ICMP {
		code = layers.ICMPv4CodeHost // an echo has no port
	}
	return a.unreachable(code, 0), true
}

// fragmentationNeeded builds the answer to a packet that is too big for the next
// link (RFC 1191 §4).
func (r *refuser) fragmentationNeeded(a *arrival, mtu int) (f frame, ok bool) {
	if !r.allow(a.now) {
		return frame{}, false
	}
	return a.unreachable(layers.ICMPv4CodeFragmentationNeeded, uint16(mtu)), true
}

// answerHeader is the IP header of an answer to a packet, in the name of the
// address that the packet was sent to.
func (a *arrival) answerHeader(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: proto,
		SrcIP: a.dst.v4(), DstIP: a.src.v4(),
	}
}

func (a *arrival) unreachable(code uint8, mtu uint16) frame {
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(icmpUnreachable, code), Seq: mtu}
	return buildFrame(a.frame.dstMAC(), a.frame.srcMAC(), layers.EthernetTypeIPv4,
		a.answerHeader(layers.IPProtocolICMPv4), icmp, gopacket.Payload(a.quote()))
}

// reset builds the RST that RFC 9293 §3.10.7.1 gives for a segment that arrives
// at a closed port.
func (p *packet) reset(ip *layers.IPv4) *layers.TCP {
	t := &layers.TCP{SrcPort: layers.TCPPort(p.dport), DstPort: layers.TCPPort(p.sport), RST: true}
	if p.tcpFlags&tcpACK != 0 {
		t.Seq = p.ack()
	} else {
		t.ACK = true
		t.Ack = p.next()
	}
	// It fails for another network layer than IP only.
	_ = t.SetNetworkLayerForChecksum(ip)
	return t
}

// quote is what an ICMP error says of the packet that caused it: as much as fits
// into 576 bytes (RFC 1812 §4.3.2.3).
func (p *packet) quote() []byte {
	return p.ip[:min(len(p.ip), 576-ipv4MinLen-icmpHeaderLen)]
}
