package iface

import (
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Counters count the traffic of one iface. Bytes are those of whole frames.
type Counters struct {
	PacketsIn, packetsOut atomic.Uint64
	BytesIn, bytesOut     atomic.Uint64
	NewFlows              atomic.Uint64
	Drops                 [packet.DropReasonCount]atomic.Uint64
}

// Gauges are current values of an iface. The layout is that of struct gauges of
// bpf/types.h, because on the kernel path they lie in a map.
type Gauges struct {
	Flows atomic.Int64  // flows that begin or end here
	Load  atomic.Int64  // those that are not closing, for least_conn
	Turn  atomic.Uint32 // of a NIC: how many flows round_robin has assigned
	Limit atomic.Uint32 // of a VNIC whose segment has limits: the number of these; 0: there are none
	Twin  atomic.Uint32 // the device's iface for the other family; 0: there is none

	// Of a NIC: 1 while another machine has the pseudo address, which this one then says and opens
	// nothing about (H2).
	Standby atomic.Uint32
}

// Limits are the limits of a segment, and how much of them is used up. Their number is that of
// the VNIC's iface for IPv4. The layout is that of struct limit of bpf/types.h.
type Limits struct {
	Cost  atomic.Int64  // what a new flow takes of the rate of new flows, in ns; 0: no limit
	Spent atomic.Int64  // the time up to which that rate is used up, in ns: see bpf/types.h
	Flows atomic.Uint32 // the most flows at once; 0: no limit
	Full  atomic.Uint32 // until when none of the flows can make room: a coarse time

	PerClient atomic.Uint32 // the most flows of one client at once; 0: no limit
	_         uint32

	Refused atomic.Uint64 // packets beyond a limit: that would have begun a flow, or waited too long

	ByteCost atomic.Int64 // what a byte takes of the rate, in ns << 16; 0: no limit
	Burst    atomic.Int64 // how much of the rate may be taken at once after a pause, in ns
	Queue    atomic.Int64 // for how long packets beyond the rate wait, at most, in ns

	// The time of the plane's clock up to which the rate is used up, in ns, by the way of packets.
	Used [Ways]atomic.Int64
}

// The two ways of packets at a segment. Each has the whole rate.
const (
	OutOfSegment = iota
	IntoSegment
	Ways
)

// CounterValues are the values of [Counters] at one moment.
type CounterValues struct {
	PacketsIn, PacketsOut, BytesIn, BytesOut, NewFlows uint64
	Drops                                              [packet.DropReasonCount]uint64
}

// Add adds w to the values.
func (v *CounterValues) Add(w CounterValues) {
	v.PacketsIn += w.PacketsIn
	v.PacketsOut += w.PacketsOut
	v.BytesIn += w.BytesIn
	v.BytesOut += w.BytesOut
	v.NewFlows += w.NewFlows
	for reason, n := range w.Drops {
		v.Drops[reason] += n
	}
}

// Values returns the counters' values added to v, which was counted elsewhere.
func (c *Counters) Values(v CounterValues) CounterValues {
	v.PacketsIn += c.PacketsIn.Load()
	v.PacketsOut += c.packetsOut.Load()
	v.BytesIn += c.BytesIn.Load()
	v.BytesOut += c.bytesOut.Load()
	v.NewFlows += c.NewFlows.Load()
	for reason := range v.Drops {
		v.Drops[reason] += c.Drops[reason].Load()
	}
	return v
}

// Add adds v, which was counted elsewhere, to the counters.
func (c *Counters) Add(v CounterValues) {
	c.PacketsIn.Add(v.PacketsIn)
	c.packetsOut.Add(v.PacketsOut)
	c.BytesIn.Add(v.BytesIn)
	c.bytesOut.Add(v.BytesOut)
	c.NewFlows.Add(v.NewFlows)
	for reason, n := range v.Drops {
		c.Drops[reason].Add(n)
	}
}
