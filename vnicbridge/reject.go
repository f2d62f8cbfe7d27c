package vnicbridge

import (
	"encoding/binary"
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

// refusal builds the answer to a packet, towards the place it came from: a RST
// to TCP, destination unreachable to the rest. ok is false where there must be
// none: to a RST (RFC 9293 §3.5.2), to an answer, or beyond the rate.
func (r *refuser) refusal(p *packet, from MAC, now time.Duration) (f frame, ok bool) {
	if p.proto == TCP && p.tcpFlags&tcpRST != 0 || p.proto == ICMP && p.l4[0] != icmpEcho {
		return frame{}, false
	}
	if !r.limit.AllowN(time.Unix(0, 0).Add(now), 1) {
		return frame{}, false
	}
	ip := &layers.IPv4{
		Version: 4, TTL: 64,
		SrcIP: p.dst.v4(), DstIP: p.src.v4(), Protocol: layers.IPProtocolICMPv4,
	}
	if p.proto == TCP {
		ip.Protocol, ip.Flags = layers.IPProtocolTCP, layers.IPv4DontFragment
		return buildFrame(from, MAC{}, layers.EthernetTypeIPv4, ip, p.reset(ip)), true
	}
	code := uint8(layers.ICMPv4CodePort)
	if p.proto == ICMP {
		code = layers.ICMPv4CodeHost // an echo has no port
	}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(icmpUnreachable, code)}
	return buildFrame(from, MAC{}, layers.EthernetTypeIPv4, ip, icmp, gopacket.Payload(p.quote())), true
}

// reset builds the RST that RFC 9293 §3.10.7.1 gives for a segment that arrives
// at a closed port.
func (p *packet) reset(ip *layers.IPv4) *layers.TCP {
	t := &layers.TCP{SrcPort: layers.TCPPort(p.dport), DstPort: layers.TCPPort(p.sport), RST: true}
	if p.tcpFlags&tcpACK != 0 {
		t.Seq = binary.BigEndian.Uint32(p.l4[8:])
	} else {
		t.ACK = true
		t.Ack = binary.BigEndian.Uint32(p.l4[4:]) + p.sequenceLen()
	}
	// It fails for another network layer than IP only.
	_ = t.SetNetworkLayerForChecksum(ip)
	return t
}

// sequenceLen is how much sequence space a TCP segment takes: its bytes, its SYN
// and its FIN.
func (p *packet) sequenceLen() uint32 {
	n := uint32(len(p.l4)) - uint32(p.l4[12]>>4)*4
	if p.tcpFlags&tcpSYN != 0 {
		n++
	}
	if p.tcpFlags&tcpFIN != 0 {
		n++
	}
	return n
}

// quote is what an ICMP error says of the packet that caused it: as much as fits
// into 576 bytes (RFC 1812 §4.3.2.3).
func (p *packet) quote() []byte {
	return p.ip[:min(len(p.ip), 576-ipv4MinLen-icmpHeaderLen)]
}
