package packet

import "encoding/binary"

// The methods in this file read the TCP header (RFC 9293 §3.1). The packet must be TCP and
// have its header: no fragment other than the first.

// Seq returns the sequence number.
func (p *Packet) Seq() uint32 { return binary.BigEndian.Uint32(p.L4[4:]) }

// Ack returns the acknowledgment number, which counts only if the segment has an ACK.
func (p *Packet) Ack() uint32 { return binary.BigEndian.Uint32(p.L4[8:]) }

// Window returns the window as it stands in the header, unscaled.
func (p *Packet) Window() uint32 { return uint32(binary.BigEndian.Uint16(p.L4[14:])) }

func (p *Packet) tcpHeaderLen() int { return int(p.L4[12]>>4) * 4 }

// Next returns the sequence number that follows the segment. Each byte, a SYN and a FIN
// take one number.
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

// Kinds of TCP options (RFC 9293 §3.2, RFC 7323 §2.2 and §3.2, RFC 2018 §2 and §3).
const (
	tcpOptionEnd           = 0
	tcpOptionNop           = 1
	tcpOptionMSS           = 2
	tcpOptionScale         = 3
	tcpOptionSACKPermitted = 4
	tcpOptionSACK          = 5
	tcpOptionTime          = 8
)

// MaxWindowScale is the largest scale of a TCP window (RFC 7323 §2.3).
const MaxWindowScale = 14

// WindowScale returns the window scale that a SYN offers, at most MaxWindowScale, or 0
// if the SYN has no such option.
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

// Reset returns the RST that answers the segment, as a closed port would (RFC 9293
// §3.10.7.1).
func (p *Packet) Reset() Segment {
	if p.TCPFlags&TCPACK != 0 {
		return Segment{Tuple: p.Reversed(), Flags: TCPRST, Seq: p.Ack()}
	}
	return Segment{Tuple: p.Reversed(), Flags: TCPRST | TCPACK, Ack: p.Next()}
}
