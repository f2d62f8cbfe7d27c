package vnicbridge

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// flowModel is the flow table as plain maps: what a flowTable does as long as nothing has
// to make room.
type flowModel struct {
	flows []*flow.Flow
	byKey map[flow.Key]*flow.Flow // each flow by both its keys
	kept  map[flow.Key]*flow.Flow // flows that are over, whose reply keys servers may remember
}

func (m *flowModel) insert(f *flow.Flow, candidates []packet.Tuple, now int64) (*flow.Flow, packet.DropReason) {
	orig, _ := f.Keys()
	if other := m.byKey[orig]; other != nil {
		return other, packet.Keep
	}
	for _, f.Reply = range candidates {
		_, reply := f.Keys()
		over := m.kept[reply]
		if over != nil && over.Orig.Src != f.Orig.Src && over.Idle(now) < flow.TimeWait || m.byKey[reply] != nil {
			continue
		}
		delete(m.kept, reply)
		m.byKey[orig], m.byKey[reply] = f, f
		m.flows = append(m.flows, f)
		return f, packet.Keep
	}
	return nil, packet.DropNoTuple
}

func (m *flowModel) remove(f *flow.Flow, now int64) {
	m.removeIf(func(other *flow.Flow) bool { return other == f })
	if flow.RememberedBy(f.Orig.Proto, f.State, now) {
		_, reply := f.Keys()
		m.kept[reply] = f
	}
}

func (m *flowModel) removeIf(condition func(*flow.Flow) bool) {
	m.flows = slices.DeleteFunc(m.flows, condition)
	maps.DeleteFunc(m.byKey, func(_ flow.Key, f *flow.Flow) bool { return condition(f) })
}

func describeFlow(f *flow.Flow) string {
	return fmt.Sprint(f.Orig, f.Reply, f.In.Name, f.Out.Name, f.Flags.Load(), f.LastSeen.Load())
}

// Rows A5 and F4: whatever is done to a flow table, it has the flows that a map would
// have, of both families, finds each by both keys, and gives each tuple to one flow at a
// time.
func TestFlowTableAgreesWithModel(t *testing.T) {
	const seed, steps = 5, 50_000
	random := rand.New(rand.NewPCG(seed, seed))
	table := flow.OwnTable(1<<12, new(flow.Handshakes))
	model := &flowModel{byKey: make(map[flow.Key]*flow.Flow), kept: make(map[flow.Key]*flow.Flow)}
	var ins, outs [config.Families]*iface.Iface
	for f := range config.Families {
		ins[f], outs[f] = iface.New(1+2*uint32(f), "in "+f.String()), iface.New(2+2*uint32(f), "out "+f.String())
		table.Know(ins[f])
		table.Know(outs[f])
	}
	host := func(f config.Family, network, host byte) packet.Addr {
		if f == config.IPv4 {
			return packet.AddrFrom4([]byte{10, network, 0, host})
		}
		return packet.Addr{0x20, 0x01, 5: network, 15: host}
	}
	address := func(f config.Family, network byte, hosts int) packet.Addr {
		return host(f, network, byte(random.IntN(hosts)))
	}
	now := int64(time.Hour)
	some := func() (*flow.Flow, *flow.Flow) { // a flow of the model, and the table's
		if len(model.flows) == 0 {
			return nil, nil
		}
		m := model.flows[random.IntN(len(model.flows))]
		orig, reply := m.Keys()
		for want, key := range []flow.Key{orig, reply} {
			if f, dir := table.Lookup(key); f == nil || describeFlow(f) != describeFlow(m) || int(dir) != want {
				t.Fatalf("the key %v leads to %v in direction %d, want %s", key, f, dir, describeFlow(m))
			}
		}
		f, _ := table.Lookup(orig)
		return m, f
	}
	for step := range steps {
		switch random.IntN(8) {
		case 0, 1, 2:
			proto := []config.Protocol{config.TCP, config.UDP}[random.IntN(2)]
			family := config.Family(random.IntN(int(config.Families)))
			in, out, server := ins[family], outs[family], host(family, 9, 1)
			p := packet.Packet{
				Tuple:    packet.Tuple{Src: address(family, 1, 20), Dst: host(family, 8, 1), Sport: uint16(random.IntN(4)), Dport: 80, Proto: proto},
				TCPFlags: packet.TCPSYN,
			}
			var candidates []packet.Tuple
			for range 1 + random.IntN(3) {
				candidates = append(candidates, packet.Tuple{Src: server, Dst: address(family, 2, 10), Sport: 80, Dport: p.Sport, Proto: proto})
			}
			f, verdict := table.Insert(flow.New(in, out, &p, now), slices.Values(candidates))
			m, want := model.insert(flow.New(in, out, &p, now), candidates, now)
			if verdict != want || (f == nil) != (m == nil) || f != nil && describeFlow(f) != describeFlow(m) {
				t.Fatalf("step %d: inserted is %v (%v), want %v (%v)", step, f, verdict, m, want)
			}
		case 3, 4:
			if m, f := some(); m != nil {
				for _, each := range []*flow.Flow{m, f} {
					each.Flags.Or(flow.Accepted)
					each.LastSeen.Store(flow.Coarse(now))
				}
			}
		case 5:
			if m, f := some(); m != nil {
				table.Remove(f, now)
				model.remove(m, now)
			}
		case 6:
			if random.IntN(20) == 0 {
				client := address(config.Family(random.IntN(int(config.Families))), 1, 20)
				condition := func(f *flow.Flow) bool { return f.Orig.Src == client }
				table.RemoveIf(condition)
				model.removeIf(condition)
			}
		case 7:
			now += int64(random.IntN(200)) << flow.ClockShift
			table.Sweep(now, 24*time.Hour) // all of it
			model.removeIf(func(f *flow.Flow) bool { return f.Idle(now) >= flow.IdleTimes[f.Class()] })
		}
		if step%100 != 0 {
			continue
		}
		var flows []string
		table.Each(func(f *flow.Flow) { flows = append(flows, describeFlow(f)) }, func() bool { return true })
		slices.Sort(flows)
		var want []string
		for _, f := range model.flows {
			want = append(want, describeFlow(f))
		}
		slices.Sort(want)
		if !slices.Equal(flows, want) || table.Len() != len(want) {
			t.Fatalf("step %d: the table has %d flows\n%v\nwant\n%v", step, table.Len(), flows, want)
		}
	}
}
