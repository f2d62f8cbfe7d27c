package vnicbridge

import "time"

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

// What is known of a TCP connection, as a middlebox sees it: no sequence numbers,
// because a flow that wrongly counts as closing still carries its packets. It is
// enum flow_flag of bpf/types.h.
const (
	flowPickedUp    = 1 << 0 // it was there before we knew of it
	flowAccepted    = 1 << 1 // the other side answered with SYN and ACK
	flowEstablished = 1 << 2 // the opener acknowledged
	flowFIN         = 1 << 3 // and 1 << 4: of either direction
	flowReset       = 1 << 5 // a RST was the last that mattered
	flowAcked       = 1 << 6 // and 1 << 7: acks holds a number
	flowSuperseded  = 1 << 8 // a newer flow has its original tuple

	flowFINs = flowFIN | flowFIN<<1
)

// classOf is the phase that a flow of a protocol is in.
func classOf(proto Protocol, flags uint32) flowClass {
	switch {
	case proto == UDP:
		return classUDP
	case proto == ICMP:
		return classICMP
	case flags&flowReset != 0 || flags&flowFINs == flowFINs:
		return classClosing
	case flags&flowEstablished != 0:
		return classEstablished
	default:
		return classHalfOpen
	}
}

// observeTCP takes one segment into account, and returns the phases before and
// after it. Both directions may do so at once.
func (s *flowState) observeTCP(p *packet, dir direction) (before, after flowClass) {
	for {
		was := s.flags.Load()
		is := nextFlags(was, p.tcpFlags, dir)
		if was == is || s.flags.CompareAndSwap(was, is) {
			return classOf(TCP, was), classOf(TCP, is)
		}
	}
}

// acknowledges tells whether a segment with these flags has an acknowledgment that
// is to be believed.
func acknowledges(segment uint8) bool { return segment&(tcpACK|tcpRST) == tcpACK }

// nextFlags is what is known after a segment.
func nextFlags(flags uint32, segment uint8, dir direction) uint32 {
	if acknowledges(segment) {
		flags |= flowAcked << dir
	}
	switch {
	case segment&tcpRST != 0:
		return flags | flowReset
	case segment&tcpSYN != 0:
		if dir == reverse && segment&tcpACK != 0 {
			flags |= flowAccepted
		}
		return flags
	}
	// RFC 7857 §2.2: a RST can be forged; traffic after it shows that the
	// connection lives.
	flags &^= flowReset
	pickedUp := flags&flowPickedUp != 0
	if pickedUp && dir == reverse {
		flags |= flowAccepted
	}
	if flags&flowAccepted != 0 && segment&tcpACK != 0 && (dir == forward || pickedUp) {
		flags |= flowEstablished
	}
	if segment&tcpFIN != 0 {
		flags |= flowFIN << dir
	}
	return flags
}
