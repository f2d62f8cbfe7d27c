package rules_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// Row N12: a label keeps its number, over rulesets and in a successor, and a number never gets
// another label.
func TestLabels(t *testing.T) {
	after := func(l *rules.Labels, names ...string) *rules.Labels {
		var steer []config.Rule
		for _, name := range names {
			steer = append(steer, named("a", name, "x.example"))
		}
		steer = append(steer, config.Rule{Segment: "b", Protocols: []config.Protocol{config.TCP}})
		return l.Of(&rules.Ruleset{Bridges: map[*iface.Iface]*rules.BridgeRules{nil: {Decisions: decisions(steer...)}}})
	}
	first := after(new(rules.Labels), "a.example", "b.example", "a.example")
	a, b := first.Number("a.example"), first.Number("b.example")
	if a == 0 || b == 0 || a == b || first.Label(a) != "a.example" || first.Label(0) != "" || first.Number("x.example") != 0 {
		t.Errorf("the numbers are %v", first.Numbers())
	}
	second := after(first, "c.example", "b.example")
	if second.Number("b.example") != b || second.Label(a) != "" || !slices.Equal(second.All(), []string{"b.example", "c.example"}) {
		t.Errorf("after %v: %v", first.Numbers(), second.Numbers())
	}
	heir := rules.LabelsOf(maps.Clone(second.Numbers()))
	for _, l := range []*rules.Labels{second, heir} {
		third := after(l, "d.example", "c.example", "b.example")
		if d := third.Number("d.example"); third.Number("b.example") != b || third.Number("c.example") != second.Number("c.example") || d == a && l == second || l.Label(d) != "" {
			t.Errorf("after %v: %v", l.Numbers(), third.Numbers())
		}
	}
}
