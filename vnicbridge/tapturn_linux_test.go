package vnicbridge

import (
	"net/netip"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// A TAP has a server's answer to a SYN at once. Whoever wrote the SYN can carry the answer, but not
// before the frames that the TAP's reader has, and not after a successor has begun to read.
func TestATAPIsReadInTurn(t *testing.T) {
	_, dev := apartVNIC(t, bothOnA)
	tap := dev.(*host.TAP)
	configured(t, &tap.VNICSetup, host.VNICSettings{
		MTU: 1500, Router: wayOnA6, Via: [config.Families]netip.Addr{netip.MustParseAddr(routerOnA), wayOnA6},
		Neighbours: map[netip.Addr]config.MAC{netip.MustParseAddr(routerOnA): routerMAC},
	})
	ask := func() {
		t.Helper()
		syn := ends{routerMAC, vnicAMAC, routerOnA, serverA, 4000, 9}.tcp("S", "")
		if tap.Send([]packet.Frame{asFrame(syn)}) != 1 {
			t.Fatal("the VNIC does not take the frame")
		}
	}
	answers := func(frames []packet.Frame) (n int) {
		for _, f := range frames { // the kernel reports its groups, too
			if d := decode(f.Eth()); d.proto == config.TCP && d.flags&packet.TCPRST != 0 {
				n++
			}
		}
		return n
	}
	wantPolled := func(when string, want int) {
		t.Helper()
		got := 0
		tap.Poll(func(frames []packet.Frame) { got = answers(frames) })
		if got != want {
			t.Fatalf("%s, %d answers are there, want %d", when, got, want)
		}
	}
	ask()
	wantPolled("when a server has been asked", 1)

	received, next := make(chan int), make(chan bool)
	go func() {
		batch := make([]packet.Frame, iface.BatchSize)
		for more := true; more; {
			n, err := tap.Receive(batch)
			if err != nil {
				return
			}
			if n = answers(batch[:n]); n > 0 {
				received <- n
				more = <-next
			}
		}
	}()
	ask()
	<-received
	ask()
	wantPolled("while the reader carries one", 0)
	next <- true
	if n := <-received; n != 1 {
		t.Errorf("the reader then gets %d answers, want 1", n)
	}
	next <- false

	again := make([]packet.Frame, iface.BatchSize)
	if err := tap.Pause(true); err != nil {
		t.Fatal(err)
	}
	if _, err := tap.Receive(again); err == nil {
		t.Fatal("a TAP that pauses is read")
	}
	ask()
	wantPolled("while the TAP pauses", 0)
	if err := tap.Pause(false); err != nil {
		t.Fatal(err)
	}
	wantPolled("after the pause", 1)
}
