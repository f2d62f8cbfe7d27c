package iface

import (
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Counters count what one device did.
type Counters struct {
	PacketsIn, packetsOut atomic.Uint64
	BytesIn, bytesOut     atomic.Uint64
	NewFlows              atomic.Uint64
	Drops                 [packet.DropReasonCount]atomic.Uint64
}

// Gauges are what is true of a device now: struct gauges of bpf/types.h.
type Gauges struct {
	Flows atomic.Int64
	Load  atomic.Int64  // flows that are not closing, for least_conn
	Turn  atomic.Uint32 // of a NIC's policy, if that goes in turn
	_     uint32
}

// CounterValues are counters at one moment.
type CounterValues struct {
	PacketsIn, PacketsOut, BytesIn, BytesOut, NewFlows uint64
	Drops                                              [packet.DropReasonCount]uint64
}

// Values adds what was counted here to what was counted elsewhere.
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

// Add counts what was counted elsewhere, for good.
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
