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

	tables[1].SetLimit(4)
	if !tables[1].Adopt(f) {
		t.Fatal("the flow is lost")
	}
	orig, _ := f.Keys()
	adopted, _ := tables[1].Lookup(orig)
	if got, ok := adopted.Shift(); !ok || got != want {
		t.Errorf("the shift is %+v (%t), want %+v", got, ok, want)
	}
}
