package packet

import (
	"bytes"
	"encoding/binary"
)

// Shift is how the numbers of a TCP connection differ between its ends because the bridge has
// answered the client's SYN itself: the server began with numbers of its own. The client's own
// numbers are the same at both ends.
type Shift struct {
	Seq  uint32 // what is added to the server's sequence numbers on their way to the client
	Time uint32 // what is added to the server's timestamps on their way to the client

	// By how many bits windows are shifted to the left on their way, because the bridge and the
	// server offered different scales (RFC 7323 §2).
	ToClient, ToServer int8
}

// ShiftToClient changes the numbers of a segment from the server to those that the client knows:
// the sequence number, the timestamp and the window.
func (p *Packet) ShiftToClient(s Shift, unfinished bool) {
	p.changeTCP(unfinished, func(header []byte) {
		add(header[4:], s.Seq)
		p.shiftWindow(header[14:], s.ToClient)
		for kind, data := range tcpOptions(header) {
			if kind == tcpOptionTime && len(data) == 8 {
				add(data, s.Time)
			}
		}
	})
}

// ShiftToServer changes the numbers of a segment from the client to those that the server knows:
// the acknowledgments, selective ones too (RFC 2018), the echo of a timestamp and the window.
func (p *Packet) ShiftToServer(s Shift, unfinished bool) {
	p.changeTCP(unfinished, func(header []byte) {
		p.shiftWindow(header[14:], s.ToServer)
		if p.TCPFlags&TCPACK == 0 {
			return
		}
		add(header[8:], -s.Seq)
		for kind, data := range tcpOptions(header) {
			switch {
			case kind == tcpOptionTime && len(data) == 8:
				add(data[4:], -s.Time)
			case kind == tcpOptionSACK:
				for ; len(data) >= 4; data = data[4:] {
					add(data, -s.Seq)
				}
			}
		}
	})
}

// shiftWindow shifts a window, unless it is that of a SYN, to which no scale applies (RFC 7323
// §2.2). One that is not zero stays so, because a window of zero stops the sender.
func (p *Packet) shiftWindow(field []byte, bits int8) {
	window := uint32(binary.BigEndian.Uint16(field))
	switch {
	case bits == 0 || window == 0 || p.TCPFlags&TCPSYN != 0:
		return
	case bits > 0:
		window = min(window<<bits, 0xffff)
	default:
		window = max(window>>-bits, 1)
	}
	binary.BigEndian.PutUint16(field, uint16(window))
}

func add(field []byte, n uint32) {
	binary.BigEndian.PutUint32(field, binary.BigEndian.Uint32(field)+n)
}

// changeTCP changes the TCP header and corrects the checksum. An unfinished one does not cover
// the header.
func (p *Packet) changeTCP(unfinished bool, change func(header []byte)) {
	header := p.L4[:p.tcpHeaderLen()]
	var before [maxTCPHeaderLen]byte
	copy(before[:], header)
	change(header)
	if !unfinished && !bytes.Equal(before[:len(header)], header) {
		applyDiff(header[16:18], checksumDiff(before[:len(header)], header))
	}
}
