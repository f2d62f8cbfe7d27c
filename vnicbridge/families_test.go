package vnicbridge

import (
	"fmt"
	"slices"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Row F14: a segment without an address of the flow's family is no candidate for it, by
// whatever policy, and a rule that names it refuses. The status says who is a candidate.
func TestSegmentsOfOneFamily(t *testing.T) {
	for _, policy := range config.Policies {
		t.Run(string(policy), func(t *testing.T) {
			cfg := dualConfig()
			cfg.Segments["b"].Addresses = prefixes(serverB + "/24")
			lan := cfg.Bridges["lan"]
			lan.LBPolicy = &config.Policy{Policy: policy, Segments: []string{"b", "a"}}
			lan.Steer = []config.Rule{
				{Segment: "b", Clients: prefixes("203.0.113.0/24")}, // none of IPv6
				{Segment: "b", Ports: []config.PortRange{{Protocol: config.TCP, First: 81, Last: 81}}},
			}
			inIPv6(t, cfg, func(t *testing.T, r *rig) {
				for i := range uint16(8) {
					r.put("nic0", in6(farHost6, 4000+i, 80).tcp("S", ""))
					r.one("vnic-A")
				}
				r.put("nic0", in6(farHost6, 5000, 81).tcp("S", ""))
				if d := decode(r.one("nic0")); answerKind(d) != "RST" {
					t.Errorf("the rule's flow of IPv6 is answered by %+v", d)
				}
				if n := r.drops("nic0", "no_segment"); n != 1 {
					t.Errorf("%d are counted, want 1", n)
				}
				r.silent("vnic-A", "vnic-B")
				r.put("nic0", fromRouter(router, 5000, 81).tcp("S", ""))
				r.one("vnic-B")
				r.wantCandidates([]string{"b", "a"}, []string{"a"})

				if err := r.plane.SetState("a", config.Draining); err != nil {
					t.Fatal(err)
				}
				r.put("nic0", in6(farHost6, 6000, 80).tcp("S", ""), fromRouter(router, 6000, 80).tcp("S", ""))
				if d := decode(r.one("nic0")); answerKind(d) != "RST" || d.src != pseudo6 {
					t.Errorf("without a candidate a flow of IPv6 is answered by %+v", d)
				}
				r.one("vnic-B")
				r.silent("vnic-A")
				r.wantCandidates([]string{"b"}, nil)
			})
		})
	}
}

// Row F10 in IPv6: under ip_hash an IPv6 client counts by its /64, which is one customer's, and
// whose other bits change every day. Under flow_hash the whole address counts.
func TestIPHashCountsNetworks(t *testing.T) {
	for policy, spreads := range map[config.PolicyName]bool{config.PolicyIPHash: false, config.PolicyFlowHash: true} {
		t.Run(string(policy), func(t *testing.T) {
			cfg := dualConfig()
			cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: policy, Segments: []string{"a", "b"}}
			inIPv6(t, cfg, func(t *testing.T, r *rig) {
				seen, spread := make(map[string]int), 0
				for network := range 32 {
					first := ""
					for host := range 6 {
						client := in6(fmt.Sprintf("2001:db8:%x:%x:%x::%x", 0x100+network, network, host*0x1111, host+1), uint16(4000+host), 80)
						r.put("nic0", client.udp("x"))
						segment, _ := r.oneOf()
						if host == 0 {
							first = segment
							seen[segment]++
						} else if segment != first {
							spread++
						}
					}
				}
				if (spread > 0) != spreads {
					t.Errorf("%d addresses get another segment than the first of their /64", spread)
				}
				if seen["a"] < 5 || seen["b"] < 5 {
					t.Errorf("of 32 networks the segments get %v", seen)
				}
			})
		})
	}
}

func (r *rig) wantCandidates(four, six []string) {
	r.t.Helper()
	candidates := r.plane.Status().Bridges["lan"].Candidates
	if got := candidates[config.IPv4]; !slices.Equal(got, four) {
		r.t.Errorf("the IPv4 candidates are %q, want %q", got, four)
	}
	if got := candidates[config.IPv6]; !slices.Equal(got, six) {
		r.t.Errorf("the IPv6 candidates are %q, want %q", got, six)
	}
}

// Row F1: under least_conn, a segment's flows of both families count.
func TestLeastConnCountsBothFamilies(t *testing.T) {
	cfg := dualConfig()
	lan := cfg.Bridges["lan"]
	lan.Steer = []config.Rule{{Segment: "a", Ports: []config.PortRange{{Protocol: config.UDP, First: 5000, Last: 5000}}}}
	lan.LBPolicy = &config.Policy{Policy: config.PolicyLeastConn, Segments: []string{"a", "b"}}
	for _, o := range []struct{ steered, balanced outsider }{{outsiders[0], outsiders[1]}, {outsiders[1], outsiders[0]}} {
		t.Run(o.balanced.name, func(t *testing.T) {
			inIPv6(t, cfg, func(t *testing.T, r *rig) {
				for port := range uint16(4) {
					r.put("nic0", o.steered.from(o.steered.host, 4000+port, 5000).udp("x"))
					r.one("vnic-A")
				}
				seen := make(map[string]int)
				for port := range uint16(6) {
					r.put("nic0", o.balanced.from(o.balanced.host, 4000+port, 80).udp("x"))
					segment, _ := r.oneOf()
					seen[segment]++
				}
				if seen["a"] != 1 || seen["b"] != 5 {
					t.Errorf("beside four flows of segment a, six more go to %v, want one to a", seen)
				}
			})
		})
	}
}
