package vnicbridge

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
)

// Row S3: a flow ends, and another flow gets its record, while packets of the first flow
// are looked up. They go by their own flow or by none, never by a mixture of both. One
// goroutine plays the table, which gives the record away again and again.
func TestRecordsAreReusedUnderPackets(t *testing.T) {
	w := newTwins(t, paperConfig())
	w.begin(t, w.rigs[0].plane.cfg)
	asked, other := fromRouter(farHost, 4000, 80), fromRouter(otherHost, 5000, 443)
	w.put("nic0", asked.tcp("S", ""))
	w.put("nic0", other.tcp("S", ""))
	for i, datapath := range []string{"userspace", "kernel"} {
		t.Run(datapath, func(t *testing.T) {
			r := w.rigs[i]
			r.t = t
			first, second := r.flowOf(asked), r.flowOf(other)
			var packets []func()
			if datapath == "kernel" {
				answer := fromA(first.Reply.Dst.Netip().String(), 80, first.Reply.Dport)
				packets = append(packets, r.carriedOrLeft(asked, "nic0", serverA), r.carriedOrLeft(answer, "vnic-A", farHost))
			}
			orig, reply := first.Keys()
			for _, key := range []flow.Key{orig, reply} {
				packets = append(packets, func() {
					if f, _ := r.plane.path.Flows.Lookup(key); f != nil && (f.Orig != first.Orig || f.Reply != first.Reply) {
						t.Errorf("the flow of %v is %v, answered by %v", key, f.Orig, f.Reply)
					}
				})
			}
			whileReused(t, alternate(r.plane.path.Flows, first, second), packets)
		})
	}
}

// whileReused lets packets come for as long as it takes to find them all at every point.
func whileReused(t *testing.T, again func(), packets []func()) {
	var table sync.WaitGroup
	var enough atomic.Bool
	table.Go(func() {
		for !enough.Load() {
			again()
		}
	})
	for range 200_000 {
		for _, packet := range packets {
			packet()
		}
		if t.Failed() {
			break
		}
	}
	enough.Store(true)
	table.Wait()
}

// flowOf is the flow that a question from the NIC has begun.
func (r *rig) flowOf(question ends) *flow.Flow {
	r.t.Helper()
	var found *flow.Flow
	r.plane.path.EachFlow(func(f *flow.Flow) {
		if f.Orig.Sport == question.sport {
			found = f.Alone()
		}
	})
	if found == nil {
		r.t.Fatalf("no flow of port %d", question.sport)
	}
	return found
}

// alternate gives the record of a flow to another one, and back. Its keys go on leading
// there: packets are as they are when they have found the record just before.
func alternate(t *flow.Table, first, second *flow.Flow) func() {
	return func() {
		for _, f := range []*flow.Flow{second, first} {
			flow.ClearKeys(&t.Records[first.Number])
			t.Write(first.Number, f)
		}
	}
}

// carriedOrLeft lets a segment of an open connection arrive at a device's program, which
// carries it to a host, or leaves it as it is.
func (r *rig) carriedOrLeft(e ends, device, to string) func() {
	frame := e.tcp("A", "")
	program := r.machine.devices[device].program
	return func() {
		out, _, err := program(asFrame(frame))
		if err != nil {
			r.t.Error(err)
			return
		}
		if slices.Equal(out[:len(frame)], frame) {
			return
		}
		if d := decode(out); d.dst != to {
			r.t.Errorf("a packet from %s to %s leaves for %s from %s", e.src, e.dst, d.dst, d.src)
		}
	}
}
