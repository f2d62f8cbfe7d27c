package flow

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row N9: a table whose limit is lower than its memory takes over a shifted flow, with its shift.
func TestAdoptShiftedFlow(t *testing.T) {
	in, out := iface.New(1, "in"), iface.New(2, "out")
	tables := [2]*Table{OwnTable(8, new(Handshakes)), OwnTable(8, new(Handshakes))}
	for _, table := range tables {
		table.Know(in)
		table.Know(out)
	}
	client, server := packet.AddrFrom4([]byte{192, 0, 2, 1}), packet.AddrFrom4([]byte{10, 0, 0, 1})
	p := packet.Packet{
		Tuple:    packet.Tuple{Src: client, Dst: packet.AddrFrom4([]byte{192, 0, 2, 2}), Sport: 4000, Dport: 443, Proto: config.TCP},
		TCPFlags: packet.TCPSYN,
	}
	f := New(in, out, &p, int64(time.Hour))
	f.Flags.Or(Greeted)
	reply := packet.Tuple{Src: server, Dst: client, Sport: 443, Dport: 4000, Proto: config.TCP}
	f, _ = tables[0].Insert(f, slices.Values([]packet.Tuple{reply}))
	want := packet.Shift{Seq: 1, Time: 2, ToClient: 3, ToServer: -4}
	f.SetShift(want)
	f.Delivered()
	f.Greet(5)

	tables[1].SetLimit(4)
	if !tables[1].Adopt(f) {
		t.Fatal("the flow is lost")
	}
	orig, _ := f.Keys()
	adopted, _ := tables[1].Lookup(orig)
	if got, ok := adopted.Shift(Forward); !ok || got != want || adopted.Rule() != 5 {
		t.Errorf("the shift is %+v (%t), want %+v; the rule is %d, want 5", got, ok, want, adopted.Rule())
	}
}

// Row R1: a flow that a successor reads is the one that was saved, between the successor's ifaces.
func TestSavedFlows(t *testing.T) {
	in, out := iface.New(1, "in"), iface.New(2, "out")
	f := alone(in, out, packet.Tuple{Src: packet.AddrFrom4([]byte{192, 0, 2, 1}), Sport: 1, Proto: config.UDP}, packet.Tuple{Dport: 2, Proto: config.TCP})
	f.LastSeen.Store(3)
	f.Flags.Store(Established | Greeted | Counted)
	f.SetShift(packet.Shift{Seq: 4, Time: 5, ToClient: -6, ToServer: 7})
	f.Delivered()
	f.Greet(16)
	for dir := range f.Sent {
		f.Windows[dir].Store(uint32(8 + dir))
		f.Sent[dir].Count.Store(uint64(10 + dir))
		f.Sent[dir].Ack.Store(uint32(12 + dir))
		f.Sent[dir].Next.Store(uint32(14 + dir))
	}
	saved := SavedFrom(append(SavedBytes([]Saved{f.Save(), f.Save()}), 0))
	if len(saved) != 2 {
		t.Fatalf("%d flows are read, want 2", len(saved))
	}
	newIn, newOut := iface.New(7, "in"), iface.New(8, "out")
	again := saved[1].Flow(newIn, newOut)
	if again.In != newIn || again.Out != newOut {
		t.Error("the flow is between other ifaces")
	}
	want := f.Save()
	want.In, want.Out = 7, 8
	want.Flags &^= Counted // another table has not counted it
	if got := again.Save(); got != want || again.Rule() != 16 {
		t.Errorf("the flow is %+v, want %+v", got, want)
	}
}
