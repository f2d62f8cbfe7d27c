package flow

import (
	"cmp"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// newBurst is the time whose new flows may begin at once after a pause, in ns.
const newBurst = int64(time.Second)

// fullTime is for how long a segment is taken to be full if none of its flows could make room,
// because to look for one takes a look at all records.
const fullTime = time.Second

// spareFlows is how many flows that can make room a look finds, at most.
const spareFlows = 4096

// spare are flows of one segment that can make room, the oldest first.
type spare struct {
	of    uint32 // the number of the segment's limits
	flows []victim
}

// SetLimits bounds the flows and the rate of a segment, at its VNIC. vnic is the iface for IPv4,
// which stands for the device.
func (t *Table) SetLimits(vnic *iface.Iface, l config.Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	limits, number := &t.Limits[vnic.Index], uint32(0)
	if l != (config.Limits{}) {
		number = vnic.Index
	}
	cost := int64(0)
	if l.New > 0 {
		cost = int64(time.Second) / int64(l.New)
	}
	if limits.Cost.Swap(cost) == 0 {
		limits.Spent.Store(-newBurst) // long ago
	}
	limits.Flows.Store(uint32(l.Flows))
	limits.Full.Store(0)
	setRate(limits, l)
	paced := uint32(0)
	if l.Rate > 0 {
		paced = number
	}
	before := limits.PerClient.Swap(uint32(l.FlowsPerClient))
	for _, own := range vnic.Each() {
		t.Meters[own.Index].Limit.Store(number)
		own.Paced.Store(paced)
	}
	if before == 0 && l.FlowsPerClient > 0 {
		t.countClients(number)
	}
}

// limitsAt returns the limits at an iface, or nil if there are none, and their number.
func (t *Table) limitsAt(p *iface.Iface) (l *iface.Limits, number uint32) {
	if number = t.Meters[p.Index].Limit.Load(); number == 0 {
		return nil, 0
	}
	return &t.Limits[number], number
}

// hasRoom tells whether the limits at an iface leave room for a new flow. If there are as many
// flows as may be, it ends some that came to nothing: room_at in bpf/flowlimit.h.
func (t *Table) hasRoom(p *iface.Iface, now int64) bool {
	l, number := t.limitsAt(p)
	if l == nil {
		return true
	}
	if l.Cost.Load() > 0 && l.Spent.Load()-coarseTime(now) >= 0 {
		return false
	}
	most := int64(l.Flows.Load())
	return most == 0 || t.flowsOf(number) < most || t.makeRoomAt(number, now)
}

// flowsOf returns how many flows a segment has, by the number of its limits.
func (t *Table) flowsOf(number uint32) int64 {
	m := &t.Meters[number]
	flows := m.Flows.Load()
	if other := m.Twin.Load(); other != 0 {
		flows += t.Meters[other].Flows.Load()
	}
	return flows
}

// coarseTime is a time in ns, as exact as the programs' clock.
func coarseTime(now int64) int64 { return int64(Coarse(now)) << ClockShift }

// spend takes a new flow from the rate of new flows at an iface.
func (t *Table) spend(p *iface.Iface, now int64) {
	l, _ := t.limitsAt(p)
	if l == nil || l.Cost.Load() == 0 {
		return
	}
	earliest := coarseTime(now) - newBurst
	if spent := l.Spent.Load(); earliest-spent > 0 {
		l.Spent.CompareAndSwap(spent, earliest)
	}
	l.Spent.Add(l.Cost.Load())
}

// makeRoomAt ends flows of a segment that came to nothing: several at once, so that the programs
// open the next flows without userspace. It returns false if there are none.
func (t *Table) makeRoomAt(number uint32, now int64) bool {
	l := &t.Limits[number]
	if int32(l.Full.Load()-Coarse(now)) > 0 {
		return false
	}
	if t.spare.of != number || len(t.spare.flows) == 0 {
		t.spare = spare{number, t.spareOf(number, now)}
	}
	ended := int64(0)
	for most := min(Room, int64(l.Flows.Load())/64+1); ended < most && len(t.spare.flows) > 0; t.spare.flows = t.spare.flows[1:] {
		v := t.spare.flows[0]
		if found, ok := victimOf(&t.Records[v.number], v.number); !ok || found != v {
			continue
		}
		t.endRemembered(v.number, now)
		ended++
	}
	if ended == 0 {
		l.Full.Store(Coarse(now + int64(fullTime)))
	}
	return ended > 0
}

// spareOf looks at all flows of a segment, and returns those that can make room, the oldest
// first.
func (t *Table) spareOf(number uint32, now int64) (flows []victim) {
	for record := range t.Used() {
		r := &t.Records[record]
		if !t.isOf(&r.Orig, number) && !t.isOf(&r.Reply, number) {
			continue
		}
		if v, ok := victimOf(r, record); ok && v.isSpare(now) {
			flows = append(flows, v)
		}
	}
	slices.SortFunc(flows, func(a, b victim) int { return cmp.Compare(int32(a.lastSeen-b.lastSeen), 0) })
	return flows[:min(len(flows), spareFlows)]
}

// isOf tells whether a key is of a flow at the VNIC with the limits of a number.
func (t *Table) isOf(key *bpf.FlowKey, number uint32) bool {
	return key.Iface < iface.Max && t.Meters[key.Iface].Limit.Load() == number
}

// isSpare tells whether the flow came to nothing.
func (v victim) isSpare(now int64) bool {
	switch v.class {
	case ClassHalfOpen, ClassClosing:
		return true
	case ClassEstablished, superseded:
		return false
	default:
		return v.idle(now)
	}
}

// limited returns DropLimit if a limit leaves no room for a flow.
func (t *Table) limited(f *Flow, now int64) packet.DropReason {
	by := f.Out
	switch {
	case !t.hasRoom(f.In, now):
		by = f.In
	case t.hasRoom(f.Out, now) && t.clientHasRoom(f):
		return packet.Keep
	}
	if l, _ := t.limitsAt(by); l != nil {
		l.Refused.Add(1)
	}
	return packet.DropLimit
}

// Refused returns how many packets were beyond a limit of a segment, by its VNIC.
func (t *Table) Refused(vnic *iface.Iface) uint64 { return t.Limits[vnic.Index].Refused.Load() }

// InheritLimits takes over what was used up of the limits in another table, and how many packets
// were refused.
func (t *Table) InheritLimits(from *Table) {
	for i := range t.Limits {
		t.Limits[i].Spent.Store(from.Limits[i].Spent.Load())
		t.Limits[i].Cost.Store(from.Limits[i].Cost.Load())
		for way := range t.Limits[i].Used {
			t.Limits[i].Used[way].Store(from.Limits[i].Used[way].Load())
		}
		t.Limits[i].Refused.Store(from.Limits[i].Refused.Load())
	}
}
