package packet

import (
	"encoding/binary"
	"iter"
	"slices"
)

// maxTCPHeaderLen is the length of the longest TCP header: its length field has 4 bits.
const maxTCPHeaderLen = 15 * 4

// tcpOptions yields the options of a TCP header, up to the first that is not well-formed. data
// is part of the header.
func tcpOptions(header []byte) iter.Seq2[byte, []byte] {
	return func(yield func(kind byte, data []byte) bool) {
		options := header[tcpMinLen:]
		for len(options) > 0 && options[0] != tcpOptionEnd {
			length := 1
			if options[0] != tcpOptionNop {
				if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
					return
				}
				if length = int(options[1]); !yield(options[0], options[2:length]) {
					return
				}
			}
			options = options[length:]
		}
	}
}

// Offer is what the SYN of one end offers to the other end, or accepts of the other's offer.
type Offer struct {
	MSS    uint16 // in bytes; 0: not told
	Scaled bool   // windows are scaled (RFC 7323 §2)
	Scale  uint8  // by so many bits
	SACK   bool   // selective acknowledgments may come (RFC 2018)
	Timed  bool   // segments have timestamps (RFC 7323 §3)
	Time   uint32 // the first of them
}

// Offer returns what a SYN offers.
func (p *Packet) Offer() (o Offer) {
	for kind, data := range tcpOptions(p.L4[:p.tcpHeaderLen()]) {
		switch {
		case kind == tcpOptionMSS && len(data) == 2:
			o.MSS = binary.BigEndian.Uint16(data)
		case kind == tcpOptionScale && len(data) == 1:
			o.Scaled, o.Scale = true, min(data[0], MaxWindowScale)
		case kind == tcpOptionSACKPermitted && len(data) == 0:
			o.SACK = true
		case kind == tcpOptionTime && len(data) == 8:
			o.Timed, o.Time = true, binary.BigEndian.Uint32(data)
		}
	}
	return o
}

// Times returns the timestamp of a segment, and the other end's that it echoes. ok is false if it
// has none.
func (p *Packet) Times() (value, echo uint32, ok bool) {
	for kind, data := range tcpOptions(p.L4[:p.tcpHeaderLen()]) {
		if kind == tcpOptionTime && len(data) == 8 {
			return binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]), true
		}
	}
	return 0, 0, false
}

// SYN returns the SYN with which the connection of the segment p has begun, with a sequence number
// and an offer.
func (p *Packet) SYN(seq uint32, o Offer) Segment {
	return Segment{Tuple: p.Tuple, Flags: TCPSYN, Seq: seq, Window: uint16(min(p.Window()<<o.Scale, 0xffff)), Options: o.options(0)}
}

// SYNACK returns the segment that accepts the SYN p, with a sequence number, a window in bytes,
// and an offer.
func (p *Packet) SYNACK(seq uint32, window uint16, o Offer) Segment {
	return Segment{
		Tuple: p.Reversed(), Flags: TCPSYN | TCPACK,
		Seq: seq, Ack: p.Seq() + 1, Window: window, Options: o.options(p.Offer().Time),
	}
}

// options returns the options of a SYN that has an offer, in the order in which Linux writes them.
// echo is the other end's timestamp.
func (o Offer) options(echo uint32) (options []byte) {
	options = make([]byte, 0, 20)
	if o.MSS > 0 {
		options = binary.BigEndian.AppendUint16(append(options, tcpOptionMSS, 4), o.MSS)
	}
	switch {
	case o.SACK && o.Timed:
		options = append(options, tcpOptionSACKPermitted, 2)
	case o.SACK:
		options = append(options, tcpOptionNop, tcpOptionNop, tcpOptionSACKPermitted, 2)
	case o.Timed:
		options = append(options, tcpOptionNop, tcpOptionNop)
	}
	if o.Timed {
		options = binary.BigEndian.AppendUint32(append(options, tcpOptionTime, 10), o.Time)
		options = binary.BigEndian.AppendUint32(options, echo)
	}
	if o.Scaled {
		options = append(options, tcpOptionNop, tcpOptionScale, 3, o.Scale)
	}
	return options
}

// accepts tells whether an end that has made an offer o takes an option of the other end's SYN.
func (o Offer) accepts(option byte) bool {
	switch option {
	case tcpOptionMSS, tcpOptionScale:
		return true
	case tcpOptionSACKPermitted:
		return o.SACK
	case tcpOptionTime:
		return o.Timed
	default:
		return false
	}
}

// Decline takes from a SYN what an offer of the bridge, in the server's place, does not accept: ECN
// (RFC 3168 §6.1.1, RFC 9768 §3.1), and every option that the offer lacks or that the bridge does not
// understand, such as those of Multipath TCP and TCP Fast Open. unfinished tells that the checksum
// does not cover the header yet.
func (p *Packet) Decline(o Offer, unfinished bool) {
	p.changeTCP(unfinished, func(header []byte) {
		header[12] &^= tcpAE
		header[13] &^= tcpECE | tcpCWR
		at := tcpMinLen
		for kind, data := range tcpOptions(header) {
			for header[at] == tcpOptionNop {
				at++
			}
			end := at + 2 + len(data)
			if !o.accepts(kind) {
				for i := at; i < end; i++ {
					header[i] = tcpOptionNop
				}
			}
			at = end
		}
	})
	p.TCPFlags &^= tcpECE | tcpCWR
}

// WithoutPayload returns a copy of the frame of the TCP segment p, without what the segment carries.
// The checksum of the copy is right, even if that of the segment is not.
func (p *Packet) WithoutPayload(f *Frame) Frame {
	payload := len(p.Payload())
	headers := VNetHeaderLen + EthHeaderLen + len(p.IP) - payload
	bare := Frame{Data: slices.Clone(f.Data[:headers]), Tagged: f.Tagged}
	if payload == 0 {
		return bare
	}
	bare.Data[1] = GSONone
	ip := bare.Eth()[EthHeaderLen:]
	if p.isIPv6() {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-IPv6HeaderLen))
	} else {
		diff := putWord(ip[2:4], binary.BigEndian.Uint16(ip[2:]), uint16(len(ip)))
		applyDiff(ip[10:12], diff)
	}
	q := Packet{IP: ip, L4: ip[len(p.IP)-len(p.L4):]}
	q.setTCPChecksum(bare.ChecksumUnfinished())
	return bare
}

// Payload returns the bytes that a TCP segment carries.
func (p *Packet) Payload() []byte { return p.L4[p.tcpHeaderLen():] }
