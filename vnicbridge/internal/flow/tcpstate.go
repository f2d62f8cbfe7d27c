package flow

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Class is the kind of a flow, and of TCP its phase. It decides after which idle time the
// flow ends, and which flows a full table evicts first (F4, L1).
type Class uint8

const (
	ClassHalfOpen    Class = iota // TCP before its handshake is complete
	ClassClosing                  // TCP after a RST or both FINs
	ClassICMP                     // an echo
	ClassUDP                      // any UDP
	ClassEstablished              // TCP
	flowClasses
)

// IdleTimes are how long flows of each class live without a packet.
var IdleTimes = [flowClasses]time.Duration{
	ClassHalfOpen:    4 * time.Minute,             // RFC 5382 REQ-5, transitory
	ClassClosing:     4 * time.Minute,             // the same; more than TimeWait
	ClassICMP:        60 * time.Second,            // RFC 5508 REQ-2
	ClassUDP:         5 * time.Minute,             // RFC 4787 REQ-5, recommended
	ClassEstablished: 2*time.Hour + 4*time.Minute, // RFC 5382 REQ-5
}

// Direction is the direction of a packet within its flow.
type Direction uint8

const (
	Forward Direction = iota // from the side that opened the flow
	Reverse
)

// The flags of a flow ([State.Flags]): what a middlebox knows of a TCP connection. They are
// enum flow_flag of bpf/types.h.
const (
	PickedUp    = 1 << 0  // the connection existed before the flow
	Accepted    = 1 << 1  // the other side answered with SYN and ACK
	Established = 1 << 2  // the opener acknowledged the answer
	FIN         = 1 << 3  // the opener sent a FIN; 1 << 4: the other side did
	Reset       = 1 << 5  // there was a RST, and no later segment contradicts it
	Acked       = 1 << 6  // Traffic.Ack of the opener is set; 1 << 7: that of the other side
	Superseded  = 1 << 8  // the flow is over and only keeps its reply key
	Over        = 1 << 9  // both sides accept that RST
	Counted     = 1 << 10 // the flow is among those of its client ([ClientCounts])
	Greeted     = 1 << 11 // the bridge itself has answered the client's SYN
	Shifted     = 1 << 12 // of a greeted flow: the shift is known, and the server has what was held
	Answered    = 1 << 13 // of a greeted flow: the server has answered, so the shift is known

	flowFINs = FIN | FIN<<1
)

// classOf returns the class of a flow with these flags.
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

// closedForBoth tells whether the connection is over for the client and for the server. A
// SYN then begins a new flow, for which a segment is chosen again.
func closedForBoth(flags uint32) bool {
	return flags&Over != 0 || flags&flowFINs == flowFINs
}

// observeTCP updates the flow for one segment, and returns the class before and after it.
// Both directions may call it at once.
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

// observeNumbers records the sequence and acknowledgment numbers and the window of a
// segment. A RST has none that count.
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

// repeated separates retransmissions from new connections. A segment that ends less than
// this many bytes before the highest number sent is a retransmission.
const repeated = 1 << 24

// believed returns the flags that a RST or a FIN adds. If the other side would not accept
// the segment, it adds none, because anybody may have forged it (F4).
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
		// A client's RST may be forged. The server accepts it only with the exact number
		// (RFC 5961 §3.2).
		if dir == Reverse || p.Seq() == other.Ack.Load() {
			return Reset | Over
		}
		return Reset
	case dir == Forward && !acked && p.Seq() == f.Sent[dir].Next.Load(): // it revokes a SYN
		return Reset | Over
	case dir == Reverse && (!acked || isClosing(flags)):
		// It may refuse a SYN: the first one, or one on a flow that is closing.
		if p.TCPFlags&packet.TCPACK != 0 && p.Ack() == other.Next.Load() {
			return Reset | Over
		}
	}
	return 0
}

// acknowledges tells whether a segment with these flags has an acknowledgment number that
// counts. That of a RST does not.
func acknowledges(segment uint8) bool { return segment&(packet.TCPACK|packet.TCPRST) == packet.TCPACK }

// nextFlags returns the flags of a flow after a segment. believed are the flags that its
// RST or FIN adds.
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
				// The client and the server have told each other their numbers, so none is shifted.
				flags &= Acked<<Reverse | Superseded | Counted
			}
			flags |= Accepted
		}
		return flags
	}
	// A RST can be forged. Traffic after it shows that the connection lives (RFC 7857
	// §2.2).
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
