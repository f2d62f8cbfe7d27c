package flow

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row L1: a new flow finds room, and is not looked for without end, even if all others have had
// packets since its own arrived, as when it waits for the table while others are carried.
func TestRoomAmongBusierFlows(t *testing.T) {
	const most = 4
	table := OwnTable(most, new(Handshakes))
	in, out := iface.New(1, "in"), iface.New(2, "out")
	table.Know(in)
	table.Know(out)
	open := func(sport uint16, now int64) (reason packet.DropReason) {
		p := packet.Packet{Tuple: packet.Tuple{
			Src: packet.AddrFrom4([]byte{192, 0, 2, 1}), Dst: packet.AddrFrom4([]byte{192, 0, 2, 2}), Sport: sport, Dport: 53, Proto: config.UDP,
		}}
		reply := packet.Tuple{Src: packet.AddrFrom4([]byte{10, 0, 0, 1}), Dst: packet.AddrFrom4([]byte{10, 0, 0, 2}), Sport: 53, Dport: sport, Proto: config.UDP}
		_, reason = table.Insert(New(in, out, &p, now), slices.Values([]packet.Tuple{reply}))
		return reason
	}
	arrived := int64(time.Hour)
	for i := range uint16(most) {
		open(1000+i, arrived+int64(time.Second))
	}
	found := make(chan packet.DropReason)
	go func() { found <- open(2000, arrived) }()
	select {
	case reason := <-found:
		if reason != packet.Keep {
			t.Errorf("the new flow is dropped: %v", reason)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the table looks for room without end")
	}
	if n := table.Len(); n != most {
		t.Errorf("%d flows, want %d", n, most)
	}
}
