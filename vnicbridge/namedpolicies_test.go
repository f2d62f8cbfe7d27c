package vnicbridge

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// policiesByName has a rule of several segments for each policy, whose name is that of the policy.
// The bridge's own policy gives the front.
func policiesByName() *config.Config {
	cfg := namedConfig()
	lan := cfg.Bridges["lan"]
	lan.Steer = nil
	for _, policy := range config.Policies {
		lan.Steer = append(lan.Steer, config.Rule{
			LBPolicy: &config.Policy{Policy: policy, Segments: []string{"a", "b"}}, Names: []string{nameOf(policy)},
		})
	}
	cfg.Segments["b"].Weight = 2
	return cfg
}

func nameOf(policy config.PolicyName) string {
	return strings.ReplaceAll(string(policy), "_", "-") + ".example"
}

// asksByName opens a connection for a name up to the question which segment gets it: "none" if its
// client gets a RST.
func (r *rig) asksByName(o outsider, port uint16, name string) (segment string) {
	r.t.Helper()
	c := r.talk(o, port).greet()
	c.sends(c.says(0, fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", name)))
	if reset := r.got("nic0"); len(reset) > 0 {
		if s := readTCP(r.t, reset[0]); s.flags&packet.TCPRST == 0 {
			r.t.Errorf("the client gets %+v, want a RST", s)
		}
		return "none"
	}
	segment, _ = c.asked()
	return segment
}

// Row N1: a rule of several segments chooses among those that take new flows, by its own policy, as
// a bridge's policy does. A switch of the bridge does not concern it.
func TestSeveralSegmentsForAName(t *testing.T) {
	withNames(t, policiesByName(), func(t *testing.T, r *rig, o outsider) {
		port := uint16(4000)
		ask := func(policy config.PolicyName, n int) map[string]int {
			got := make(map[string]int)
			for range n {
				port++
				got[r.asksByName(o, port, nameOf(policy))]++
			}
			return got
		}
		want := func(what string, policy config.PolicyName, want map[string]int) {
			t.Helper()
			n := 0
			for _, of := range want {
				n += of
			}
			if got := ask(policy, n); !maps.Equal(got, want) {
				t.Errorf("%s, %s: the segments get %v, want %v", what, policy, got, want)
			}
		}
		usual := func(what string) {
			t.Helper()
			want(what, config.PolicyFirst, map[string]int{"a": 4})
			want(what, config.PolicyRoundRobin, map[string]int{"a": 4, "b": 4})
			want(what, config.PolicyWeightedRoundRobin, map[string]int{"a": 3, "b": 6})
		}
		usual("as configured")
		want("in the end b has twice as many", config.PolicyLeastConn, map[string]int{"a": 6, "b": 24})
		if got := ask(config.PolicyIPHash, 8); len(got) != 1 {
			t.Errorf("ip_hash: one client gets %v", got)
		}
		for _, policy := range []config.PolicyName{config.PolicyRandom, config.PolicyFlowHash} {
			if got := ask(policy, 64); got["a"] < 4 || got["b"] < 16 || got["a"]+got["b"] != 64 {
				t.Errorf("%s: the segments get %v", policy, got)
			}
		}
		if err := r.plane.Switch("lan", "b"); err != nil {
			t.Fatal(err)
		}
		usual("switched")
		for i, segment := range []string{"a", "b"} {
			if err := r.plane.SetState(segment, config.Draining); err != nil {
				t.Fatal(err)
			}
			for _, policy := range config.Policies {
				want("drained", policy, []map[string]int{{"b": 3}, {"none": 2}}[i])
			}
		}
		for _, segment := range []string{"a", "b"} {
			if err := r.plane.SetState(segment, config.Active); err != nil {
				t.Fatal(err)
			}
		}
		usual("active again")
	})
}
