package vnicbridge

import (
	"maps"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// wantNames checks which name each listed flow has, by the client's port.
func (r *rig) wantNames(filter flowlist.Filter, want map[uint16]string) {
	r.t.Helper()
	got := make(map[uint16]string)
	for _, f := range r.list(filter) {
		got[f.Client.Port()] = f.Name
	}
	if !maps.Equal(got, want) {
		r.t.Errorf("%+v: the flows have the names %v, want %v", filter, got, want)
	}
}

// apply applies a configuration, and takes what the devices sent.
func (r *rig) apply(cfg *config.Config) {
	r.t.Helper()
	if err := r.plane.Apply(cfg); err != nil {
		r.t.Fatal(err)
	}
	r.pass(0)
}

// Row N12: the list of flows tells which rule has chosen a segment, by its first name, as long as
// there is the rule: over reloads, and over changes of the data path and of the table.
func TestFlowsTellTheirRule(t *testing.T) {
	cfg := func(change func(*config.Config)) *config.Config {
		cfg := namedConfig()
		lan := cfg.Bridges["lan"]
		lan.Steer = append(lan.Steer, config.Rule{Segment: "b", Names: []string{"bücher.example"}})
		change(cfg)
		return cfg
	}
	withNames(t, cfg(func(*config.Config) {}), func(t *testing.T, r *rig, o outsider) {
		for i, host := range []string{"www.a.example", "xn--bcher-kva.example", "other.example"} {
			c := r.talk(o, 4000+uint16(i)).greet()
			c.sends(c.says(0, strings.ReplaceAll(headOfA, "www.a.example", host)))
			c.asksForSegment(map[bool]string{true: "a", false: "b"}[i == 0])
			c.accept()
		}
		r.put("nic0", o.from(o.host, 4009, 81).tcp("S", ""))
		const a, b = "a.example", "xn--bcher-kva.example"
		all := map[uint16]string{4000: a, 4001: b, 4002: "", 4009: ""}
		r.wantNames(flowlist.Filter{}, all)
		r.wantNames(flowlist.Filter{Name: "A.example."}, map[uint16]string{4000: a})
		r.wantNames(flowlist.Filter{Name: "Bücher.example"}, map[uint16]string{4001: b})

		for _, change := range []func(*config.Config){
			func(cfg *config.Config) { // another order
				lan := cfg.Bridges["lan"]
				lan.Steer = append([]config.Rule{{Segment: "b", Names: []string{"c.example"}}}, lan.Steer[1], lan.Steer[0])
			},
			func(cfg *config.Config) { cfg.Datapath = config.DatapathUserspace },
			func(cfg *config.Config) { cfg.MaxFlows = 5000 },
			func(cfg *config.Config) {},
		} {
			r.apply(cfg(change))
			r.wantNames(flowlist.Filter{}, all)
		}

		r.apply(cfg(func(cfg *config.Config) {
			lan := cfg.Bridges["lan"]
			lan.Steer = append(lan.Steer[:1:1], config.Rule{Segment: "b", Names: []string{"d.example"}})
		}))
		r.wantNames(flowlist.Filter{}, map[uint16]string{4000: a, 4001: "", 4002: "", 4009: ""})
	})
}

// A filter for a name that no rule has first says which there are.
func TestFlowsOfAnUnknownName(t *testing.T) {
	cfg := namedConfig()
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		want := func(name, says string) {
			t.Helper()
			_, err := r.plane.Flows(flowlist.Filter{Name: name})
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: the error is %v, want one that says %q", name, err, says)
			}
		}
		want("b.example", "name b.example: want the first name of a steer rule, which are a.example")
		want("*", "stands for the first label only")
		many := namedConfig()
		for i := range 11 {
			many.Bridges["lan"].Steer = append(many.Bridges["lan"].Steer, config.Rule{Segment: "b", Names: []string{string(rune('b'+i)) + ".example"}})
		}
		r.apply(many)
		want("www.a.example", "i.example, j.example and 2 more")
		r.apply(dualConfig())
		want("a.example", "no steer rule has names")
	})
}
