package flow

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Class is the phase of a flow's life: it gives the idle time after which
// the flow ends, and who must go first when the table is full (F4, L1).
type Class uint8

const (
	ClassHalfOpen    Class = iota // TCP before its handshake is complete
	ClassClosing                  // TCP after a RST or both FINs
	ClassICMP                     // an echo
	ClassUDP                      // any UDP
	ClassEstablished              // TCP
	flowClasses
)

// IdleTimes are how long a flow of each class lives without a packet.
var IdleTimes = [flowClasses]time.Duration{
	ClassHalfOpen:    4 * time.Minute,             // RFC 5382 REQ-5, transitory
	ClassClosing:     4 * time.Minute,             // the same; longer than TIME_WAIT
	ClassICMP:        60 * time.Second,            // RFC 5508 REQ-2
	ClassUDP:         5 * time.Minute,             // RFC 4787 REQ-5, recommended
	ClassEstablished: 2*time.Hour + 4*time.Minute, // RFC 5382 REQ-5
}

// Direction of a packet within its flow.
type Direction uint8

const (
	Forward Direction = iota // from the side that opened the flow
	Reverse
)

// What is known of a TCP connection, as a middlebox sees it. It is enum flow_flag of
// bpf/types.h.
const (
	PickedUp    = 1 << 0 // it was there before we knew of it
	Accepted    = 1 << 1 // the other side answered with SYN and ACK
	Established = 1 << 2 // the opener acknowledged
	FIN         = 1 << 3 // and 1 << 4: of either direction
	Reset       = 1 << 5 // a RST was the last that mattered
	Acked       = 1 << 6 // and 1 << 7: Traffic.ack holds a number
	Superseded  = 1 << 8 // a newer flow has its original tuple
	Over        = 1 << 9 // both sides take that RST for the end

	flowFINs = FIN | FIN<<1
)

// classOf is the phase that a flow of a protocol is in.
func classOf(proto config.Protocol, flags uint32) Class {
	switch {
	case proto == config.UDP:
		return ClassUDP
	case proto == config.ICMP:
		return ClassICMP
	case isClosing(flags):
		return ClassClosing
	case flags&Established != 0:
		return ClassEstablished
	default:
		return ClassHalfOpen
	}
}

func isClosing(flags uint32) bool { return flags&Reset != 0 || flags&flowFINs == flowFINs }

// closedForBoth tells whether a SYN may choose a segment anew: the connection is over
// for its client and for its server.
func closedForBoth(flags uint32) bool {
	return flags&Over != 0 || flags&flowFINs == flowFINs
}

// observeTCP takes one segment into account, and returns the phases before and
// after it. Both directions may do so at once.
func (f *Flow) observeTCP(p *packet.Packet, dir Direction) (before, after Class) {
	f.observeNumbers(p, dir)
	for {
		was := f.Flags.Load()
		is := nextFlags(was, p.TCPFlags, dir, f.believed(was, p, dir))
		if was == is || f.Flags.CompareAndSwap(was, is) {
			return classOf(config.TCP, was), classOf(config.TCP, is)
		}
	}
}

// observeNumbers takes the numbers of a segment that says where its sender is.
func (f *Flow) observeNumbers(p *packet.Packet, dir Direction) {
	sent, window := f.Sent[dir], &f.Windows[dir]
	if acknowledges(p.TCPFlags) {
		sent.Ack.Store(p.Ack())
	}
	switch flags := f.Flags.Load(); {
	case p.TCPFlags&packet.TCPRST != 0:
	case p.TCPFlags&packet.TCPSYN == 0:
		if !acknowledges(p.TCPFlags) {
			return
		}
		if sent.Next.Load()-p.Next()-1 >= repeated {
			sent.Next.Store(p.Next())
		}
		if w := window.Load(); p.Window() > w>>8 {
			window.Store(p.Window()<<8 | w&0xff)
		}
	case flags&Established == 0 || isClosing(flags): // else the SYN may be forged
		sent.Next.Store(p.Next())
		scale := p.WindowScale()
		window.Store((p.Window()+1<<scale-1)>>scale<<8 | scale) // a SYN's own window is unscaled
	}
}

// repeated is how far behind what was sent last a segment is a repeated one, not one
// of a connection that begins anew.
const repeated = 1 << 24

// believed is what a RST, or a FIN, adds to the flags: nothing, if the other side
// cannot accept it, because then anybody may have forged it (F4).
func (f *Flow) believed(flags uint32, p *packet.Packet, dir Direction) uint32 {
	other, w := f.Sent[1-dir], f.Windows[1-dir].Load()
	acked, window := flags&(Acked<<(1-dir)) != 0, w>>8<<(w&15)
	switch {
	case p.TCPFlags&packet.TCPRST == 0:
		known := acked && p.Next()-1-other.Ack.Load() <= window
		if p.TCPFlags&packet.TCPFIN != 0 && (known || !acked && flags&PickedUp != 0) {
			return FIN << dir
		}
	case acked && p.Seq()-other.Ack.Load() <= window:
		// The client's RST may be anybody's, and the server may find it inexact (RFC 5961
		// §3.2).
		if dir == Reverse || p.Seq() == other.Ack.Load() {
			return Reset | Over
		}
		return Reset
	case dir == Forward && !acked && p.Seq() == f.Sent[dir].Next.Load(): // it takes a SYN back
		return Reset | Over
	case dir == Reverse && (!acked || isClosing(flags)):
		// It may answer a SYN: the first one, or one on a flow that is closing.
		if p.TCPFlags&packet.TCPACK != 0 && p.Ack() == other.Next.Load() {
			return Reset | Over
		}
	}
	return 0
}

// acknowledges tells whether a segment with these flags has an acknowledgment that
// is to be believed.
func acknowledges(segment uint8) bool { return segment&(packet.TCPACK|packet.TCPRST) == packet.TCPACK }

// nextFlags is what is known after a segment, of whose RST or FIN is believed what
// believed says.
func nextFlags(flags uint32, segment uint8, dir Direction, believed uint32) uint32 {
	if acknowledges(segment) {
		flags |= Acked << dir
	}
	switch {
	case segment&packet.TCPRST != 0:
		return flags | believed
	case segment&packet.TCPSYN != 0:
		if dir == Reverse && segment&packet.TCPACK != 0 {
			if flags&Reset != 0 { // the tuple's next connection
				flags &= Acked<<Reverse | Superseded
			}
			flags |= Accepted
		}
		return flags
	}
	// RFC 7857 §2.2: a RST can be forged; traffic after it shows that the
	// connection lives.
	flags &^= Reset | Over
	pickedUp := flags&PickedUp != 0
	if pickedUp && dir == Reverse {
		flags |= Accepted
	}
	opened := dir == Forward || pickedUp && flags&Acked != 0
	if flags&Accepted != 0 && segment&packet.TCPACK != 0 && opened {
		flags |= Established
	}
	return flags | believed
}
