package vnicbridge

import (
	"encoding/binary"
	"time"
)

// flowClass is the phase of a flow's life: it gives the idle time after which
// the flow ends, and who must go first when the table is full (F4, L1).
type flowClass uint8

const (
	classHalfOpen    flowClass = iota // TCP before its handshake is complete
	classClosing                      // TCP after a RST or both FINs
	classICMP                         // an echo
	classUDP                          // any UDP
	classEstablished                  // TCP
	flowClasses
)

// idleTimes are how long a flow of each class lives without a packet.
var idleTimes = [flowClasses]time.Duration{
	classHalfOpen:    4 * time.Minute,             // RFC 5382 REQ-5, transitory
	classClosing:     4 * time.Minute,             // the same; longer than TIME_WAIT
	classICMP:        60 * time.Second,            // RFC 5508 REQ-2
	classUDP:         5 * time.Minute,             // RFC 4787 REQ-5, recommended
	classEstablished: 2*time.Hour + 4*time.Minute, // RFC 5382 REQ-5
}

// direction of a packet within its flow.
type direction uint8

const (
	forward direction = iota // from the side that opened the flow
	reverse
)

// tcpState follows a TCP connection as a middlebox sees it: no sequence numbers,
// because a flow that wrongly counts as closing still carries its packets.
type tcpState struct {
	pickedUp    bool    // it was there before we knew of it
	accepted    bool    // the other side answered with SYN and ACK
	established bool    // the opener acknowledged
	fin         [2]bool // by direction
	reset       bool    // a RST was the last that mattered

	// What each side last acknowledged: the sequence number with which the other
	// could end the connection (RFC 5961 §3.2). By direction.
	acks  [2]uint32
	acked [2]bool
}

// observe takes one packet into account and returns the phase it leaves the
// connection in.
func (s *tcpState) observe(dir direction, p *packet) flowClass {
	flags := p.tcpFlags
	if flags&tcpACK != 0 && flags&tcpRST == 0 {
		s.acks[dir], s.acked[dir] = binary.BigEndian.Uint32(p.l4[8:]), true
	}
	switch {
	case flags&tcpRST != 0:
		s.reset = true
	case flags&tcpSYN != 0:
		s.accepted = s.accepted || dir == reverse && flags&tcpACK != 0
	default:
		// RFC 7857 §2.2: a RST can be forged; traffic after it shows that the
		// connection lives.
		s.reset = false
		s.accepted = s.accepted || s.pickedUp && dir == reverse
		s.established = s.established || s.accepted && flags&tcpACK != 0 && (dir == forward || s.pickedUp)
		s.fin[dir] = s.fin[dir] || flags&tcpFIN != 0
	}
	return s.class()
}

func (s *tcpState) class() flowClass {
	switch {
	case s.reset || s.fin[forward] && s.fin[reverse]:
		return classClosing
	case s.established:
		return classEstablished
	default:
		return classHalfOpen
	}
}
