package integration_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows S2 and S4: a segment in a namespace of its own is served and calls by IPv6, and
// reaches nothing but its gateway: neither the host, nor another segment, nor the network.
func TestNetnsIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		names := s.namespaces()
		s.start(caddyfile{
			datapath: datapath, families: "46", policy: "lb_policy first a b",
			a: "ports any\nnetns " + names["a"], b: "ports any\nnetns " + names["b"],
		})
		a, b := s.enter(names["a"]), s.enter(names["b"])
		s.wantService6()
		s.listen(a, server6+":9000", sayPeer)
		if got, err := hear(s.PC1, pseudo6+":9000", 2*time.Second); err != nil || !isDerivedAlias(netip.MustParseAddr(got)) {
			t.Errorf("a segment's own server sees %q (%v), want an alias", got, err)
		}
		s.listen(b, "[::]:22", say("segment b"))
		s.listen(s.Server, "[::]:22", say("the host"))
		s.listen(s.Router, "[::]:22", sayPeer)
		s.listen(s.Neighbours[0], "[::]:22", say("a neighbour"))
		if got, err := hear(a, "[fd00:50::2]:22", 2*time.Second); err != nil || got != paper.PseudoAddr6.String() {
			t.Errorf("the gateway is called by %q (%v), want the pseudo address", got, err)
		}
		s.wantPing(a, netip.MustParseAddr("fd00:50::2"))
		if out, err := a.Run(t.Context(), "ip", "-6", "route", "add", "default", "via", "fd00:50::2", "dev", "vnic-A"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, address := range []string{"fd00:60::1", "fd00:60::2", "2001:db8:1::2", "2001:db8:1::1", "2001:db8:1::11", "2001:db8:10::2", "fd00:50::8000:0:0:1"} {
			if got, err := hear(a, "["+address+"]:22", 300*time.Millisecond); err == nil {
				t.Errorf("from within a segment %s says %q", address, got)
			}
		}
		s.stop()
	})
}
