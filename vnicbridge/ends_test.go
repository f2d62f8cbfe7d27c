package vnicbridge

import (
	"net/netip"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Servers are told who the client really is and what it dialed, and UDP servers how
// to answer.
func TestEndsAndAlias(t *testing.T) {
	cfg := frontConfig()
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
	cfg.Segments["b"].ClientIP = config.Preserve
	cfg.Bridges["lan"].Steer = append(cfg.Bridges["lan"].Steer, config.Rule{Segment: "b", Ports: []config.PortRange{{Protocol: config.UDP, First: 5000, Last: 5000}}})
	here, _ := cfg.PeerAlias("front", "a", config.IPv4)
	there, _ := cfg.PeerAlias("a", "front", config.IPv4)
	at := func(address string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(address), port)
	}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		alias := r.open(farHost, 4000)
		r.put("nic0", fromRouter(farHost, 4001, 53).udp("x"), fromRouter(farHost, 4002, 5000).udp("x"))
		r.put("vnic-F", ends{cfg.Segments["front"].MAC, vnicAMAC, "192.168.40.1", here.String(), 4000, 80}.udp("x"))
		for _, test := range []struct {
			name, segment string
			proto         config.Protocol
			local, remote netip.AddrPort
			want          Ends
		}{
			{"translated", "a", config.TCP, at(serverA, 80), at(alias, 4000), Ends{at(farHost, 4000), at(pseudo, 80)}},
			{"UDP", "a", config.UDP, at(serverA, 53), at(alias, 4001), Ends{at(farHost, 4001), at(pseudo, 53)}},
			{"preserved", "b", config.UDP, at(serverB, 5000), at(farHost, 4002), Ends{at(farHost, 4002), at(pseudo, 5000)}},
			{"from another segment", "a", config.UDP, at(serverA, 80), at(there.String(), 4000), Ends{at("192.168.40.1", 4000), at(here.String(), 80)}},
		} {
			got, ok := r.plane.Ends(test.segment, test.proto, test.local, test.remote)
			if !ok || got != test.want {
				t.Errorf("%s: the ends are %v, %v; want %v", test.name, got, ok, test.want)
			}
			for _, dialed := range []netip.AddrPort{test.want.Dialed, {}} {
				if got, ok := r.plane.Alias(test.segment, test.proto, test.local, Ends{test.want.Client, dialed}); !ok || got != test.remote {
					t.Errorf("%s: the alias of one who dialed %s is %s, %v; want %s", test.name, dialed, got, ok, test.remote)
				}
			}
			if got, ok := r.plane.Alias(test.segment, test.proto, test.local, Ends{test.want.Client, at("192.168.1.3", 80)}); ok {
				t.Errorf("%s: who dialed another address has the alias %s", test.name, got)
			}
		}
		for what, remote := range map[string]netip.AddrPort{"over lo": at("127.0.0.1", 4000), "of no flow": at(alias, 4001)} {
			if got, ok := r.plane.Ends("a", config.TCP, at(serverA, 80), remote); ok {
				t.Errorf("a connection %s has the ends %v", what, got)
			}
		}
		for _, segment := range []string{"b", "none"} {
			if got, ok := r.plane.Ends(segment, config.TCP, at(serverA, 80), at(alias, 4000)); ok {
				t.Errorf("segment %s is told of a's client %v", segment, got)
			}
		}
	})
}
