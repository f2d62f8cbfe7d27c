package flow

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Packets beyond a segment's rate wait, for at most queueTime and in at most queueBytes. At a
// low rate, leastQueueBytes may wait, which are the ten packets with which a TCP connection
// begins (RFC 6928). If none waits, a packet of any size may.
const (
	queueTime       = 100 * time.Millisecond
	queueBytes      = 16 << 20
	leastQueueBytes = 16 << 10
)

// byteCostShift makes the cost of a byte exact at high rates: it is in ns << byteCostShift.
const byteCostShift = 16

// setRate sets a segment's limit of rates. What is used up of it stays.
func setRate(l *iface.Limits, c config.Limits) {
	cost := int64(0)
	if c.Rate > 0 {
		cost = 8 * int64(time.Second) << byteCostShift / c.Rate
	}
	l.Burst.Store(int64(c.BurstTime()))
	l.Queue.Store(min(max(int64(queueTime), cost*leastQueueBytes>>byteCostShift), cost*queueBytes>>byteCostShift))
	l.ByteCost.Store(cost)
}

// Pace takes a packet from the rates of the segments at both ends of its flow, and returns when
// it may depart. size is the bytes of its IP packets. The verdict is DropLimit if too many
// packets wait already: pace in bpf/pace.h.
func (t *Table) Pace(from, to *iface.Iface, size int, now int64) (departure int64, verdict packet.DropReason) {
	ends := [iface.Ways]*iface.Limits{iface.OutOfSegment: t.rateAt(from), iface.IntoSegment: t.rateAt(to)}
	departure = now
	for way, l := range ends {
		if l == nil {
			continue
		}
		wait := l.Used[way].Load() - now
		if wait > 0 && wait+costOf(l, size) > l.Queue.Load() {
			l.Refused.Add(1)
			return 0, packet.DropLimit
		}
		departure = max(departure, now+wait)
	}
	for way, l := range ends {
		if l == nil {
			continue
		}
		used := &l.Used[way]
		if before, earliest := used.Load(), now-l.Burst.Load(); before < earliest {
			used.CompareAndSwap(before, earliest)
		}
		used.Add(costOf(l, size))
	}
	return departure, packet.Keep
}

// costOf returns what a packet takes of a rate, in ns.
func costOf(l *iface.Limits, size int) int64 { return l.ByteCost.Load() * int64(size) >> byteCostShift }

// rateAt returns the limits of the segment at an iface if it has a limit of rates, or nil.
func (t *Table) rateAt(p *iface.Iface) *iface.Limits {
	if number := p.Paced.Load(); number != 0 {
		return &t.Limits[number]
	}
	return nil
}
