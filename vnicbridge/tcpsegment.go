package vnicbridge

import (
	"encoding/binary"

	"github.com/google/gopacket/layers"
)

// What a TCP segment says beyond its flags (RFC 9293 §3.1). The packet is one of TCP, and
// no later fragment.

func (p *packet) seq() uint32 { return binary.BigEndian.Uint32(p.l4[4:]) }

func (p *packet) ack() uint32 { return binary.BigEndian.Uint32(p.l4[8:]) }

func (p *packet) window() uint32 { return uint32(binary.BigEndian.Uint16(p.l4[14:])) }

func (p *packet) tcpHeaderLen() int { return int(p.l4[12]>>4) * 4 }

// next is the sequence number that follows the segment: its bytes, its SYN and its FIN
// have one each.
func (p *packet) next() uint32 {
	next := p.seq() + uint32(len(p.l4)-p.tcpHeaderLen())
	if p.tcpFlags&tcpSYN != 0 {
		next++
	}
	if p.tcpFlags&tcpFIN != 0 {
		next++
	}
	return next
}

// Kinds of TCP options (RFC 9293 §3.2, RFC 7323 §2.2).
const (
	tcpOptionEnd   = 0
	tcpOptionNop   = 1
	tcpOptionScale = 3
)

// maxWindowScale is the largest scale of a TCP window (RFC 7323 §2.3).
const maxWindowScale = 14

// windowScale is the scale of the windows that the sender of a SYN will offer. Without
// the option it is 0.
func (p *packet) windowScale() uint32 {
	options := p.l4[tcpMinLen:p.tcpHeaderLen()]
	for len(options) >= 3 && options[0] != tcpOptionEnd {
		length := int(options[1])
		switch {
		case options[0] == tcpOptionScale:
			return min(uint32(options[2]), maxWindowScale)
		case options[0] == tcpOptionNop:
			length = 1
		case length < 2 || length > len(options):
			return 0
		}
		options = options[length:]
	}
	return 0
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
