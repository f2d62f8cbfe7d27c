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

// What is known of a TCP connection, as a middlebox sees it. It is enum flow_flag of
// bpf/types.h.
const (
	flowPickedUp    = 1 << 0 // it was there before we knew of it
	flowAccepted    = 1 << 1 // the other side answered with SYN and ACK
	flowEstablished = 1 << 2 // the opener acknowledged
	flowFIN         = 1 << 3 // and 1 << 4: of either direction
	flowReset       = 1 << 5 // a RST was the last that mattered
	flowAcked       = 1 << 6 // and 1 << 7: flowTraffic.ack holds a number
	flowSuperseded  = 1 << 8 // a newer flow has its original tuple
	flowOver        = 1 << 9 // both sides take that RST for the end

	flowFINs = flowFIN | flowFIN<<1
)

// classOf is the phase that a flow of a protocol is in.
func classOf(proto Protocol, flags uint32) flowClass {
	switch {
	case proto == UDP:
		return classUDP
	case proto == ICMP:
		return classICMP
	case isClosing(flags):
		return classClosing
	case flags&flowEstablished != 0:
		return classEstablished
	default:
		return classHalfOpen
	}
}

func isClosing(flags uint32) bool { return flags&flowReset != 0 || flags&flowFINs == flowFINs }

// closedForBoth tells whether a SYN may choose a segment anew: the connection is over
// for its client and for its server.
func closedForBoth(flags uint32) bool {
	return flags&flowOver != 0 || flags&flowFINs == flowFINs
}

// observeTCP takes one segment into account, and returns the phases before and
// after it. Both directions may do so at once.
func (f *flow) observeTCP(p *packet, dir direction) (before, after flowClass) {
	f.observeNumbers(p, dir)
	for {
		was := f.flags.Load()
		is := nextFlags(was, p.tcpFlags, dir, f.believed(was, p, dir))
		if was == is || f.flags.CompareAndSwap(was, is) {
			return classOf(TCP, was), classOf(TCP, is)
		}
	}
}

// observeNumbers takes the numbers of a segment that says where its sender is.
func (f *flow) observeNumbers(p *packet, dir direction) {
	sent, window := f.sent[dir], &f.windows[dir]
	if acknowledges(p.tcpFlags) {
		sent.ack.Store(p.ack())
	}
	switch flags := f.flags.Load(); {
	case p.tcpFlags&tcpRST != 0:
	case p.tcpFlags&tcpSYN == 0:
		if !acknowledges(p.tcpFlags) {
			return
		}
		if sent.next.Load()-p.next()-1 >= repeated {
			sent.next.Store(p.next())
		}
		if w := window.Load(); p.window() > w>>8 {
			window.Store(p.window()<<8 | w&0xff)
		}
	case flags&flowEstablished == 0 || isClosing(flags): // else the SYN may be forged
		sent.next.Store(p.next())
		scale := p.windowScale()
		window.Store((p.window()+1<<scale-1)>>scale<<8 | scale) // a SYN's own window is unscaled
	}
}

// repeated is how far behind what was sent last a segment is a repeated one, not one
// of a connection that begins anew.
const repeated = 1 << 24

// believed is what a RST, or a FIN, adds to the flags: nothing, if the other side
// cannot accept it, because then anybody may have forged it (F4).
func (f *flow) believed(flags uint32, p *packet, dir direction) uint32 {
	other, w := f.sent[1-dir], f.windows[1-dir].Load()
	acked, window := flags&(flowAcked<<(1-dir)) != 0, w>>8<<(w&15)
	switch {
	case p.tcpFlags&tcpRST == 0:
		known := acked && p.next()-1-other.ack.Load() <= window
		if p.tcpFlags&tcpFIN != 0 && (known || !acked && flags&flowPickedUp != 0) {
			return flowFIN << dir
		}
	case acked && p.seq()-other.ack.Load() <= window:
		// The client's RST may be anybody's, and the server may find it inexact (RFC 5961
		// §3.2).
		if dir == reverse || p.seq() == other.ack.Load() {
			return flowReset | flowOver
		}
		return flowReset
	case dir == forward && !acked && p.seq() == f.sent[dir].next.Load(): // it takes a SYN back
		return flowReset | flowOver
	case dir == reverse && (!acked || isClosing(flags)):
		// It may answer a SYN: the first one, or one on a flow that is closing.
		if p.tcpFlags&tcpACK != 0 && p.ack() == other.next.Load() {
			return flowReset | flowOver
		}
	}
	return 0
}

// acknowledges tells whether a segment with these flags has an acknowledgment that
// is to be believed.
func acknowledges(segment uint8) bool { return segment&(tcpACK|tcpRST) == tcpACK }

// nextFlags is what is known after a segment, of whose RST or FIN is believed what
// believed says.
func nextFlags(flags uint32, segment uint8, dir direction, believed uint32) uint32 {
	if acknowledges(segment) {
		flags |= flowAcked << dir
	}
	switch {
	case segment&tcpRST != 0:
		return flags | believed
	case segment&tcpSYN != 0:
		if dir == reverse && segment&tcpACK != 0 {
			if flags&flowReset != 0 { // the tuple's next connection
				flags &= flowAcked<<reverse | flowSuperseded
			}
			flags |= flowAccepted
		}
		return flags
	}
	// RFC 7857 §2.2: a RST can be forged; traffic after it shows that the
	// connection lives.
	flags &^= flowReset | flowOver
	pickedUp := flags&flowPickedUp != 0
	if pickedUp && dir == reverse {
		flags |= flowAccepted
	}
	opened := dir == forward || pickedUp && flags&flowAcked != 0
	if flags&flowAccepted != 0 && segment&tcpACK != 0 && opened {
		flags |= flowEstablished
	}
	return flags | believed
}
