package vnicbridge

import (
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
)

// Row A5: while a server may hold a tuple in TIME_WAIT, another client does not
// get it; the same client does, and after 60 s anybody.
func TestTupleQuarantine(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin
	cfg.Segments["a"].Aliases = config.AddrRange{First: mustIP("192.168.50.2"), Last: mustIP("192.168.50.3")}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		// A client's connection to a ends, and a new one with its port goes to b: the
		// tuple at a is free, but a's server is in TIME_WAIT.
		alias := r.open(farHost, 4000)
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("FA", ""))
		r.put("nic0", fromRouter(farHost, 4000, 80).tcp("FA", ""))
		r.put("nic0", fromRouter(farHost, 4000, 80).tcp("S", ""))
		r.got("vnic-A")
		r.one("vnic-B")

		onA := func(client string, port uint16) decoded {
			t.Helper()
			for {
				r.got("vnic-A")
				r.got("vnic-B")
				r.put("nic0", fromRouter(client, port, 80).tcp("S", ""))
				if frames := r.got("vnic-A"); len(frames) == 1 {
					return decode(frames[0])
				}
				// It was b's turn: end that flow and try again.
				fromB := ends{vnicBMAC, routerMAC, serverB, decode(r.one("vnic-B")).src, 80, port}
				r.put("vnic-B", fromB.tcp("RA", ""))
			}
		}
		if d := onA("203.0.113.200", 4000); d.src == alias && d.sport == 4000 {
			t.Errorf("another client got %s:%d at once", d.src, d.sport)
		}
		time.Sleep(flow.TimeWait + time.Second)
		r.got("nic0")
		if d := onA("203.0.113.201", 4000); d.src != alias || d.sport != 4000 {
			t.Errorf("after 60 s a client got %s:%d, want %s:4000", d.src, d.sport, alias)
		}
	})
}
