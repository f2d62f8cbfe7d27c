package vnicbridge

import (
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// routers are sources of ICMP errors that a router on the way may have, whatever networks
// this machine has.
var routers = map[string]string{
	"a public address":       "198.51.100.1",
	"a private one":          "172.16.3.4",
	"one of carriers":        "100.64.0.1",
	"a link-local one":       "169.254.7.7",
	"one of 240/4":           "240.1.2.3",
	"one of its segment":     "192.168.50.77",
	"its segment's own":      serverA,
	"one of another segment": "192.168.60.77",
	"another segment's own":  serverB,
	"the host's":             "10.9.8.7",
	"one of the NIC's link":  otherHost,
	"the gateway's":          router,
}

// Row F6+: anybody may send an ICMP error about a flow, for its quote decides: a router
// that is numbered as a segment or this host is, too. Nobody has the other addresses.
func TestWhoMaySendICMPErrors(t *testing.T) {
	nobody := map[string]string{
		"the pseudo address": pseudo, "loopback": "127.0.0.1", "0/8": "0.1.2.3", "nowhere": "0.0.0.0",
		"multicast": "224.0.0.1", "the last multicast group": "239.255.255.255", "broadcast": "255.255.255.255",
	}
	for _, mode := range []config.ClientIP{config.Translate, config.Preserve} {
		for name, source := range merged(routers, nobody) {
			t.Run(string(mode)+" "+name, func(t *testing.T) {
				cfg := paperConfig()
				cfg.Segments["a"].ClientIP = mode
				onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
					r.machine.prefixes = []host.Prefix{{Device: "eth9", Prefix: netip.MustParsePrefix("10.9.8.7/24")}}
					r.machine.hints <- struct{}{}
					time.Sleep(2 * maintainInterval)
					r.got("nic0") // ARP
					alias := r.open(farHost, 4000)
					r.put("vnic-A", fromA(alias, 80, 4000).tcp("A", "a large answer"))
					sent := r.one("nic0")
					r.put("nic0", fromRouter(source, 0, 0).icmpErrorAbout(packet.ICMPUnreachable, sent, 576))
					if nobody[name] != "" {
						r.silent("vnic-A")
						if n := r.drops("nic0", "bad_source"); n != 1 {
							t.Errorf("%d dropped for their source, want 1", n)
						}
						return
					}
					raw := r.one("vnic-A")
					if d := decode(raw); d.dst != serverA || !d.valid {
						t.Errorf("%+v", d)
					}
					if src, dst, _, _ := quoteOf(t, raw); src != serverA || dst != alias {
						t.Errorf("quotes %s to %s", src, dst)
					}
				})
			})
		}
	}
}

func merged(a, b map[string]string) map[string]string {
	all := make(map[string]string)
	for _, m := range []map[string]string{a, b} {
		for name, address := range m {
			all[name] = address
		}
	}
	return all
}

// Row F6+: a client of 240/4 is one like others.
func TestReservedAddressesAreUnicast(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Egress = config.EgressAny
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for i, client := range []string{"240.0.0.1", "250.1.2.3", "255.255.255.254"} {
			alias := r.open(client, uint16(4000+i))
			r.put("vnic-A", fromA(alias, 80, uint16(4000+i)).tcp("A", "answer"))
			if d := decode(r.one("nic0")); d.dst != client {
				t.Errorf("the answer to %s went to %s", client, d.dst)
			}
			r.put("vnic-A", fromA(client, 5000, 53).udp("question"))
			if d := decode(r.one("nic0")); d.dst != client {
				t.Errorf("what was for %s went to %s", client, d.dst)
			}
		}
	})
}

// Row F6: a segment sees each router on the way under an address of its own, which is no
// other's and stays the same: in a traceroute they differ, and the destination is itself.
func TestRoutersHaveAliases(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Egress = config.EgressAny
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		probe := func(dst string, port uint16) []byte {
			r.put("vnic-A", fromA(dst, 5000, port).udp("probe"))
			return r.one("nic0")
		}
		seen := func(from string, about []byte) string {
			r.put("nic0", fromRouter(from, 0, 0).icmpErrorAbout(packet.ICMPTimeExceeded, about, 576))
			raw := r.one("vnic-A")
			d := decode(raw)
			if d.dst != serverA || !d.valid {
				t.Errorf("%+v", d)
			}
			return d.src
		}
		hops := []string{router, "198.51.100.1", "10.1.1.1", farHost}
		first := make(map[string]string)
		for i, hop := range hops {
			first[hop] = seen(hop, probe(farHost, uint16(33434+i)))
		}
		if first[router] != routerOnA || first[farHost] != farHost {
			t.Errorf("the gateway is %s, the destination %s", first[router], first[farHost])
		}
		pool := cfg.Segments["a"].Subnet(config.IPv4)
		for _, hop := range hops[1:3] {
			if alias := first[hop]; !pool.Contains(netip.MustParseAddr(alias)) || alias == routerOnA || alias == serverA {
				t.Errorf("%s is %s", hop, alias)
			}
		}
		for _, hop := range hops {
			if again := seen(hop, probe("203.0.113.200", 33434)); hop != farHost && again != first[hop] {
				t.Errorf("%s is %s, and then %s", hop, first[hop], again)
			}
		}
		// The address of a router lets nothing out.
		r.put("vnic-A", fromA(first["198.51.100.1"], 5000, 80).udp("to the router"))
		r.silent("nic0")
		if n := r.drops("vnic-A", "egress_denied"); n != 1 {
			t.Errorf("%d counted as denied, want 1", n)
		}
	})
}

// Row F6: the same for what a segment answers, to clients that are aliases to it. A
// router's alias is not the client's, although one hash chooses both.
func TestRoutersAreNotClients(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Aliases = config.AddrRange{First: mustIP(routerOnA), Last: mustIP("192.168.50.4")}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for i := range 20 {
			alias := r.open(farHost, uint16(4000+i))
			r.put("vnic-A", fromA(alias, 80, uint16(4000+i)).tcp("A", "answer"))
			sent := r.one("nic0")
			for from, want := range map[string]func(string) bool{
				farHost:       func(src string) bool { return src == alias },
				router:        func(src string) bool { return src == routerOnA },
				"203.0.113.1": func(src string) bool { return src != alias },
				client(i):     func(src string) bool { return src != alias },
			} {
				r.put("nic0", fromRouter(from, 0, 0).icmpErrorAbout(packet.ICMPTimeExceeded, sent, 576))
				if d := decode(r.one("vnic-A")); !want(d.src) {
					t.Errorf("%s is %s to the segment, the client %s", from, d.src, alias)
				}
			}
		}
	})
}

// Row F6: a segment that sees clients by their own addresses sees routers by theirs. One
// whose address is taken inside is an alias.
func TestRoutersOfPreserve(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].ClientIP = config.Preserve
	inside := map[string]bool{"192.168.50.77": true, serverA: true, "192.168.60.77": true, serverB: true}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		r.open(farHost, 4000)
		r.put("vnic-A", fromA(farHost, 80, 4000).tcp("A", "answer"))
		sent := r.one("nic0")
		for _, from := range routers {
			r.put("nic0", fromRouter(from, 0, 0).icmpErrorAbout(packet.ICMPTimeExceeded, sent, 576))
			d := decode(r.one("vnic-A"))
			if !inside[from] && d.src != from {
				t.Errorf("%s is %s", from, d.src)
			}
			if inside[from] && (d.src == from || !cfg.Segments["a"].Subnet(config.IPv4).Contains(netip.MustParseAddr(d.src))) {
				t.Errorf("%s, whose address is taken, is %s", from, d.src)
			}
		}
	})
}
