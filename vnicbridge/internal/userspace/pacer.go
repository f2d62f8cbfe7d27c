package userspace

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// pacer holds packets that are beyond the rate of a segment until they may depart. Packets of
// one way at a segment depart in the order in which they came.
type pacer struct {
	mu      lockorder.Mutex[lockorder.Pacer]
	packets departures
	came    uint64           // how many packets have come to wait
	waiting map[pacedWay]int // how many packets wait
	earlier chan struct{}    // a packet departs earlier than all that waited
}

// pacedWay is one way of packets at a segment, by the number of the segment's limits. 0: the
// segment has no limit of rates, or the packet comes from a NIC or goes to one.
type pacedWay struct {
	limits uint32
	way    int
}

// pacedWays returns the ways that a packet takes from one iface to another.
func pacedWays(from, to *iface.Iface) [2]pacedWay {
	return [2]pacedWay{{from.Paced.Load(), iface.OutOfSegment}, {to.Paced.Load(), iface.IntoSegment}}
}

// waitingPacket is a packet that has been rewritten.
type waitingPacket struct {
	at       int64 // the plane's clock, in ns
	order    uint64
	ways     [2]pacedWay
	from, to *iface.Iface
	frame    packet.Frame
	dst      packet.Addr
	own      bool // the segment that sent the packet has opened its flow
}

func newPacer() *pacer {
	return &pacer{waiting: make(map[pacedWay]int), earlier: make(chan struct{}, 1)}
}

// depart sends a rewritten packet by an iface: now, or when the rates of the segments at both
// ends of its flow allow.
func (fw *Forwarder) depart(a *Arrival, to *iface.Iface, dst packet.Addr) packet.DropReason {
	if a.In.Paced.Load() == 0 && to.Paced.Load() == 0 {
		return a.leaveBy(to, dst)
	}
	at, verdict := fw.Flows.Pace(a.In, to, a.wireSize(), a.Now)
	if verdict != packet.Keep {
		return verdict
	}
	if at > a.Now {
		a.Out.Flush() // what came before it must not leave after it
	}
	if fw.pacer.hold(a, at, to, dst) {
		return packet.Keep
	}
	return a.leaveBy(to, dst)
}

// wireSize returns how many bytes the packet has, or, of a super-packet, the packets into which
// segmentation offload cuts it.
func (a *Arrival) wireSize() int {
	size, each := len(a.IP), a.Frame.GsoSize()
	if each == 0 || a.Later {
		return size
	}
	headers := a.HeadersLen()
	if size <= headers+each {
		return size
	}
	return size + (size-headers-1)/each*headers
}

// hold keeps a packet until a time. It returns false if the packet may depart now, and none
// waits that came earlier.
func (p *pacer) hold(a *Arrival, at int64, to *iface.Iface, dst packet.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ways := pacedWays(a.In, to)
	if at <= a.Now && p.waiting[ways[0]] == 0 && p.waiting[ways[1]] == 0 {
		return false
	}
	p.count(ways, 1)
	p.came++
	frame := packet.Frame{Data: slices.Clone(a.Frame.Data), Tagged: a.Frame.Tagged}
	heap.Push(&p.packets, &waitingPacket{at, p.came, ways, a.In, to, frame, dst, a.own})
	if p.packets[0].order == p.came {
		select {
		case p.earlier <- struct{}{}:
		default:
		}
	}
	return true
}

// count counts packets that have come to wait, or no longer do.
func (p *pacer) count(ways [2]pacedWay, n int) {
	for _, w := range ways {
		if w.limits == 0 {
			continue
		}
		if p.waiting[w] += n; p.waiting[w] == 0 {
			delete(p.waiting, w)
		}
	}
}

// RunPacer sends the packets that wait, each at its time, until stop is closed.
func (fw *Forwarder) RunPacer(stop <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	out := new(iface.Outbox)
	for {
		if next, waits := fw.sendDue(out); waits {
			timer.Reset(time.Duration(next - fw.Clock()))
		}
		select {
		case <-stop:
			return
		case <-fw.pacer.earlier:
		case <-timer.C:
		}
	}
}

// sendDue sends the packets whose time has come, and returns the time of the next one, if any
// waits.
func (fw *Forwarder) sendDue(out *iface.Outbox) (next int64, waits bool) {
	fw.moving.RLock()
	defer fw.moving.RUnlock()
	now := fw.Clock()
	due := fw.pacer.due(now)
	for _, w := range due {
		if w.to.Closed.Load() {
			continue
		}
		a := Arrival{In: w.from, Frame: &w.frame, Now: now, Out: out, own: w.own}
		if verdict := a.leaveBy(w.to, w.dst); verdict != packet.Keep {
			w.from.Drops[verdict].Add(1)
		}
	}
	out.Flush()
	return fw.pacer.sent(due)
}

// due takes out the packets whose time has come. They count as waiting until they are sent, so
// that none overtakes them.
func (p *pacer) due(now int64) (due []*waitingPacket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.packets) > 0 && p.packets[0].at <= now {
		due = append(due, heap.Pop(&p.packets).(*waitingPacket))
	}
	return due
}

// sent tells that packets have been sent, and returns the time of the next one, if any waits.
func (p *pacer) sent(packets []*waitingPacket) (next int64, waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range packets {
		p.count(w.ways, -1)
	}
	if len(p.packets) == 0 {
		return 0, false
	}
	return p.packets[0].at, true
}

// departures is a heap of packets, the one that departs next first.
type departures []*waitingPacket

func (d departures) Len() int { return len(d) }
func (d departures) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(d[i].at, d[j].at), cmp.Compare(d[i].order, d[j].order)) < 0
}
func (d departures) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *departures) Push(x any)   { *d = append(*d, x.(*waitingPacket)) }
func (d *departures) Pop() any {
	last := len(*d) - 1
	w := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return w
}
