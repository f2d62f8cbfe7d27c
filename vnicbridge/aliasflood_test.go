package vnicbridge

import (
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Row L2: a flood that takes every tuple of a small pool of aliases keeps nobody out, although
// the table has room: flows that came to nothing make room. Connections stay.
func TestFullAliasesSpareClients(t *testing.T) {
	cfg := paperConfig()
	only := mustAddr(routerOnA).Netip()
	cfg.Segments["a"].Aliases = config.AddrRange{First: only, Last: only}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		// A well-known port is replaced by a well-known one: 1023 tuples.
		const port, flood = 700, 3000
		alias := r.open(farHost, port)
		for i := range flood {
			r.put("nic0", fromRouter(client(i), port, 80).tcp("S", ""))
			if got := len(r.got("vnic-A")); got != 1 {
				t.Fatalf("SYN %d of the flood comes to segment a %d times", i+1, got)
			}
		}
		if n := r.drops("nic0", "no_free_tuple"); n != 0 {
			t.Errorf("%d packets found no tuple", n)
		}
		r.open("198.51.1.1", port)
		r.put("nic0", fromRouter(farHost, port, 80).tcp("A", "still here"))
		if got := decode(r.one("vnic-A")).src; got != alias {
			t.Errorf("the connection of before the flood comes from %s, want %s", got, alias)
		}
	})
}

// Row F12: one segment alone may have every port of the pseudo address for a destination, and
// leaves another one its share as soon as that one asks. What it had opened before makes room,
// except connections.
func TestSegmentsSharePorts(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		// A well-known port is replaced by a well-known one: 1023 of them.
		const ports = 1023
		fromB := func(sport uint16) []byte {
			return ends{vnicBMAC, routerMAC, serverB, routerOnB, sport, 53}.udp("mine")
		}
		for sport := uint16(1); sport <= ports; sport++ {
			r.put("vnic-A", fromA(routerOnA, sport, 53).udp("all mine"))
			r.one("nic0")
		}
		const share = 300
		for sport := uint16(1); sport <= share; sport++ {
			r.put("vnic-B", fromB(sport))
			if d := decode(r.one("nic0")); d.src != pseudo || d.payload != "mine" {
				t.Fatalf("datagram %d of the other segment leaves as %+v", sport, d)
			}
		}
		if n := r.drops("vnic-B", "no_free_tuple"); n != 0 {
			t.Errorf("%d datagrams of the other segment found no port", n)
		}
		// Those that share fairly take nothing from each other.
		refused := 0
		for sport := uint16(share + 1); sport <= 2*share; sport++ {
			r.put("vnic-B", fromB(sport))
			if len(r.got("nic0")) == 0 {
				refused++
			}
		}
		if refused == 0 {
			t.Error("the other segment gets more than its share")
		}
	})
}
