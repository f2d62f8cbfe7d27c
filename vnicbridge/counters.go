package vnicbridge

import "sync/atomic"

// counters count what one device did.
type counters struct {
	packetsIn, packetsOut atomic.Uint64
	bytesIn, bytesOut     atomic.Uint64
	newFlows              atomic.Uint64
	drops                 [dropReasons]atomic.Uint64
}

// gauges are what is true of a device now: struct gauges of bpf/types.h.
type gauges struct {
	flows atomic.Int64
	load  atomic.Int64  // flows that are not closing, for least_conn
	turn  atomic.Uint32 // of a NIC's policy, if that goes in turn
	_     uint32
}

// counterValues are counters at one moment.
type counterValues struct {
	packetsIn, packetsOut, bytesIn, bytesOut, newFlows uint64
	drops                                              [dropReasons]uint64
}

// values adds what was counted here to what was counted elsewhere.
func (c *counters) values(v counterValues) counterValues {
	v.packetsIn += c.packetsIn.Load()
	v.packetsOut += c.packetsOut.Load()
	v.bytesIn += c.bytesIn.Load()
	v.bytesOut += c.bytesOut.Load()
	v.newFlows += c.newFlows.Load()
	for reason := range v.drops {
		v.drops[reason] += c.drops[reason].Load()
	}
	return v
}

// add counts what was counted elsewhere, for good.
func (c *counters) add(v counterValues) {
	c.packetsIn.Add(v.packetsIn)
	c.packetsOut.Add(v.packetsOut)
	c.bytesIn.Add(v.bytesIn)
	c.bytesOut.Add(v.bytesOut)
	c.newFlows.Add(v.newFlows)
	for reason, n := range v.drops {
		c.drops[reason].Add(n)
	}
}
