package vnicbridge

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// flowModel is the flow table as plain maps: what a flowTable does as long as nothing has
// to make room.
type flowModel struct {
	flows []*flow
	byKey map[flowKey]*flow // each flow by both its keys
	kept  map[flowKey]*flow // flows that are over, whose reply keys servers may remember
}

func (m *flowModel) insert(f *flow, candidates []tuple, now int64) (*flow, dropReason) {
	orig, _ := f.keys()
	if other := m.byKey[orig]; other != nil {
		return other, keep
	}
	for _, f.reply = range candidates {
		_, reply := f.keys()
		over := m.kept[reply]
		if over != nil && over.orig.src != f.orig.src && over.idle(now) < timeWait || m.byKey[reply] != nil {
			continue
		}
		delete(m.kept, reply)
		m.byKey[orig], m.byKey[reply] = f, f
		m.flows = append(m.flows, f)
		return f, keep
	}
	return nil, dropNoTuple
}

func (m *flowModel) remove(f *flow, now int64) {
	m.removeIf(func(other *flow) bool { return other == f })
	if rememberedBy(f.orig.proto, f.flowState, now) {
		_, reply := f.keys()
		m.kept[reply] = f
	}
}

func (m *flowModel) removeIf(condition func(*flow) bool) {
	m.flows = slices.DeleteFunc(m.flows, condition)
	maps.DeleteFunc(m.byKey, func(_ flowKey, f *flow) bool { return condition(f) })
}

func describeFlow(f *flow) string {
	return fmt.Sprint(f.orig, f.reply, f.in.name, f.out.name, f.flags.Load(), f.lastSeen.Load())
}

// Rows A5 and F4: whatever is done to a flow table, it has the flows that a map would
// have, finds each by both keys, and gives each tuple to one flow at a time.
func TestFlowTableAgreesWithModel(t *testing.T) {
	const seed, steps = 5, 50_000
	random := rand.New(rand.NewPCG(seed, seed))
	table := ownTable(1<<12, new(handshakes))
	model := &flowModel{byKey: make(map[flowKey]*flow), kept: make(map[flowKey]*flow)}
	in, out := newPort(1, "in"), newPort(2, "out")
	table.know(in)
	table.know(out)
	address := func(network byte, hosts int) addr { return addrFrom4([]byte{10, network, 0, byte(random.IntN(hosts))}) }
	server, dialed := addrFrom4([]byte{10, 9, 0, 1}), addrFrom4([]byte{10, 8, 0, 1})
	now := int64(time.Hour)
	some := func() (*flow, *flow) { // a flow of the model, and the table's
		if len(model.flows) == 0 {
			return nil, nil
		}
		m := model.flows[random.IntN(len(model.flows))]
		orig, reply := m.keys()
		for want, key := range []flowKey{orig, reply} {
			if f, dir := table.lookup(key); f == nil || describeFlow(f) != describeFlow(m) || int(dir) != want {
				t.Fatalf("the key %v leads to %v in direction %d, want %s", key, f, dir, describeFlow(m))
			}
		}
		f, _ := table.lookup(orig)
		return m, f
	}
	for step := range steps {
		switch random.IntN(8) {
		case 0, 1, 2:
			proto := []Protocol{TCP, UDP}[random.IntN(2)]
			p := packet{
				tuple:    tuple{src: address(1, 20), dst: dialed, sport: uint16(random.IntN(4)), dport: 80, proto: proto},
				tcpFlags: tcpSYN,
			}
			var candidates []tuple
			for range 1 + random.IntN(3) {
				candidates = append(candidates, tuple{src: server, dst: address(2, 10), sport: 80, dport: p.sport, proto: proto})
			}
			f, verdict := table.insert(newFlow(in, out, &p, now), slices.Values(candidates))
			m, want := model.insert(newFlow(in, out, &p, now), candidates, now)
			if verdict != want || (f == nil) != (m == nil) || f != nil && describeFlow(f) != describeFlow(m) {
				t.Fatalf("step %d: inserted is %v (%v), want %v (%v)", step, f, verdict, m, want)
			}
		case 3, 4:
			if m, f := some(); m != nil {
				for _, each := range []*flow{m, f} {
					each.flags.Or(flowAccepted)
					each.lastSeen.Store(coarse(now))
				}
			}
		case 5:
			if m, f := some(); m != nil {
				table.remove(f, now)
				model.remove(m, now)
			}
		case 6:
			if random.IntN(20) == 0 {
				client := address(1, 20)
				condition := func(f *flow) bool { return f.orig.src == client }
				table.removeIf(condition)
				model.removeIf(condition)
			}
		case 7:
			now += int64(random.IntN(200)) << clockShift
			table.sweep(now, 24*time.Hour) // all of it
			model.removeIf(func(f *flow) bool { return f.idle(now) >= idleTimes[f.class()] })
		}
		if step%100 != 0 {
			continue
		}
		var flows []string
		table.each(func(f *flow) { flows = append(flows, describeFlow(f)) }, func() bool { return true })
		slices.Sort(flows)
		var want []string
		for _, f := range model.flows {
			want = append(want, describeFlow(f))
		}
		slices.Sort(want)
		if !slices.Equal(flows, want) || table.len() != len(want) {
			t.Fatalf("step %d: the table has %d flows\n%v\nwant\n%v", step, table.len(), flows, want)
		}
	}
}
