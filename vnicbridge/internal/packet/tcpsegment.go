package packet

import (
	"encoding/binary"

	"github.com/google/gopacket/layers"
)

// What a TCP segment says beyond its flags (RFC 9293 §3.1). The packet is one of TCP, and
// no later fragment.

func (p *Packet) Seq() uint32 { return binary.BigEndian.Uint32(p.L4[4:]) }

func (p *Packet) Ack() uint32 { return binary.BigEndian.Uint32(p.L4[8:]) }

func (p *Packet) Window() uint32 { return uint32(binary.BigEndian.Uint16(p.L4[14:])) }

func (p *Packet) tcpHeaderLen() int { return int(p.L4[12]>>4) * 4 }

// Next is the sequence number that follows the segment: its bytes, its SYN and its FIN
// have one each.
func (p *Packet) Next() uint32 {
	next := p.Seq() + uint32(len(p.L4)-p.tcpHeaderLen())
	if p.TCPFlags&TCPSYN != 0 {
		next++
	}
	if p.TCPFlags&TCPFIN != 0 {
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

// MaxWindowScale is the largest scale of a TCP window (RFC 7323 §2.3).
const MaxWindowScale = 14

// WindowScale is the scale of the windows that the sender of a SYN will offer. Without
// the option it is 0.
func (p *Packet) WindowScale() uint32 {
	options := p.L4[tcpMinLen:p.tcpHeaderLen()]
	for len(options) >= 3 && options[0] != tcpOptionEnd {
		length := int(options[1])
		switch {
		case options[0] == tcpOptionScale:
			return min(uint32(options[2]), MaxWindowScale)
		case options[0] == tcpOptionNop:
			length = 1
		case length < 2 || length > len(options):
			return 0
		}
		options = options[length:]
	}
	return 0
}

// Reset builds the RST that RFC 9293 §3.10.7.1 gives for a segment that arrives
// at a closed port.
func (p *Packet) Reset(ip *layers.IPv4) *layers.TCP {
	t := &layers.TCP{SrcPort: layers.TCPPort(p.Dport), DstPort: layers.TCPPort(p.Sport), RST: true}
	if p.TCPFlags&TCPACK != 0 {
		t.Seq = p.Ack()
	} else {
		t.ACK = true
		t.Ack = p.Next()
	}
	// It fails for another network layer than IP only.
	_ = t.SetNetworkLayerForChecksum(ip)
	return t
}
