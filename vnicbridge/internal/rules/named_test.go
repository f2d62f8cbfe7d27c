package rules_test

import (
	"net/netip"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// decisions compiles steer rules. The segments a to e are available, and the policy gives e.
func decisions(steer ...config.Rule) *rules.DecisionTable {
	available := make(map[string]rules.Candidate)
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		available[name] = rules.Candidate{Name: name, Iface: iface.New(uint32(i+1), name), Weight: 1}
	}
	b := &config.Bridge{Steer: steer, LBPolicy: &config.Policy{Policy: config.PolicyFirst, Segments: []string{"e"}}}
	return rules.CompileDecisions(b, available, iface.New(0, "nic0"), rules.Key{})
}

func flowFrom(client string, proto config.Protocol, port uint16) packet.Tuple {
	return packet.Tuple{
		Src: packet.AddrOf(netip.MustParseAddr(client)), Dst: packet.AddrOf(netip.MustParseAddr("192.168.1.2")),
		Sport: 4000, Dport: port, Proto: proto,
	}
}

func named(segment string, names ...string) config.Rule {
	return config.Rule{Segment: segment, Names: names}
}

func ports(proto config.Protocol, first, last uint16) []config.PortRange {
	return []config.PortRange{{Protocol: proto, First: first, Last: last}}
}

func clients(networks ...string) (prefixes []netip.Prefix) {
	for _, n := range networks {
		prefixes = append(prefixes, netip.MustParsePrefix(n))
	}
	return prefixes
}

// Row N1: the first rule that matches decides. But among the rules with names before the first rule
// without, a name itself counts before a wildcard.
func TestDecideNamed(t *testing.T) {
	const client = "203.0.113.9"
	plain := config.Rule{Segment: "d", Ports: ports(config.TCP, 1, 65535)}
	for _, tc := range []struct {
		name  string
		steer []config.Rule
		want  map[string]string // segment by host name
	}{
		{
			"the order of wildcards", []config.Rule{named("a", "*.x.example"), named("b", "*.x.example", "*.y.example")},
			map[string]string{"1.x.example": "a", "1.y.example": "b", "x.example": "e", "2.1.x.example": "e", "": "e"},
		}, {
			"the order of names", []config.Rule{named("a", "1.x.example"), named("b", "1.x.example", "2.x.example")},
			map[string]string{"1.x.example": "a", "2.x.example": "b"},
		}, {
			"a name after a wildcard", []config.Rule{named("a", "*.x.example"), named("b", "1.x.example")},
			map[string]string{"1.x.example": "b", "2.x.example": "a"},
		}, {
			"a name in the rule of the wildcard", []config.Rule{named("a", "*.x.example", "1.x.example"), named("b", "1.x.example")},
			map[string]string{"1.x.example": "a"},
		}, {
			"a rule without names between", []config.Rule{named("a", "*.x.example"), plain, named("b", "1.x.example", "y.example")},
			map[string]string{"1.x.example": "a", "y.example": "d", "": "d"},
		}, {
			"a rule without names, of others, between",
			[]config.Rule{named("a", "*.x.example"), {Segment: "d", Clients: clients("10.0.0.0/8")}, named("b", "1.x.example")},
			map[string]string{"1.x.example": "b", "2.x.example": "a", "": "e"},
		}, {
			"a rule without names in the end", []config.Rule{named("a", "x.example"), named("b", "*.example"), plain},
			map[string]string{"x.example": "a", "y.example": "b", "example": "d", "": "d", "192.0.2.1": "d"},
		}, {
			"letters of other scripts, and upper case", []config.Rule{named("a", "BÜCHER.example."), named("b", "*.B.example")},
			map[string]string{"xn--bcher-kva.example": "a", "1.b.example": "b"},
		}, {
			"client, port and name together", []config.Rule{
				{Segment: "a", Names: []string{"x.example"}, Clients: clients("10.0.0.0/8")},
				{Segment: "b", Names: []string{"x.example"}, Clients: clients("203.0.113.0/24"), Ports: ports(config.TCP, 444, 444)},
				{Segment: "c", Names: []string{"x.example"}, Clients: clients("203.0.113.0/24"), Ports: ports(config.TCP, 443, 443)},
			},
			map[string]string{"x.example": "c", "y.example": "e"},
		}, {
			"a segment that is not available", []config.Rule{named("gone", "x.example", "*.y.example"), named("a", "x.example", "*.y.example", "1.y.example"), plain},
			map[string]string{"x.example": "none", "1.y.example": "a", "2.y.example": "none", "z.example": "d"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table := decisions(tc.steer...)
			for host, want := range tc.want {
				segment, _ := table.DecideNamed(flowFrom(client, config.TCP, 443), host)
				if got := nameOf(segment); got != want {
					t.Errorf("%q goes to %s, want %s", host, got, want)
				}
			}
		})
	}
}

func nameOf(segment *iface.Iface) string {
	if segment == nil {
		return "none"
	}
	return segment.Name
}

// Row N1: a name is needed only if the first rule that applies to a flow has names. Otherwise the
// bridge keeps out of the handshake.
func TestNeedsName(t *testing.T) {
	table := decisions(
		config.Rule{Segment: "d", Clients: clients("10.0.0.0/8", "2001:db8:10::/48")},
		named("a", "x.example"),
		config.Rule{Segment: "b", Names: []string{"x.example"}, Ports: ports(config.TCP, 8443, 8443), Clients: clients("203.0.113.0/24")},
		config.Rule{Segment: "c", Ports: ports(config.TCP, 9000, 9000)},
		config.Rule{Segment: "c", Names: []string{"x.example"}, Ports: ports(config.TCP, 9000, 9001)},
	)
	for _, tc := range []struct {
		flow  packet.Tuple
		needs bool
	}{
		{flowFrom("203.0.113.9", config.TCP, 80), true},
		{flowFrom("203.0.113.9", config.TCP, 443), true},
		{flowFrom("2001:db8::9", config.TCP, 443), true},
		{flowFrom("203.0.113.9", config.TCP, 8443), true},
		{flowFrom("203.0.113.9", config.TCP, 9001), true},
		{flowFrom("203.0.113.9", config.UDP, 443), true},

		{flowFrom("10.1.1.1", config.TCP, 443), false}, // an earlier rule decides
		{flowFrom("2001:db8:10::9", config.TCP, 443), false},
		{flowFrom("203.0.113.9", config.TCP, 9000), false},
		{flowFrom("203.0.113.9", config.TCP, 22), false}, // no rule
		{flowFrom("198.51.100.1", config.TCP, 8443), false},
		{flowFrom("203.0.113.9", config.UDP, 80), false},
		{flowFrom("203.0.113.9", config.ICMP, 0), false},
	} {
		if got := table.NeedsName(tc.flow); got != tc.needs {
			t.Errorf("%s needs a name: %v, want %v", tc.flow, got, tc.needs)
		}
		if _, lasting := table.Lasting(tc.flow); lasting && tc.needs {
			t.Errorf("%s: the segment lasts, although it depends on a name that later packets do not have", tc.flow)
		}
	}
	if decisions(config.Rule{Segment: "a", Ports: ports(config.TCP, 443, 443)}).NeedsName(flowFrom("203.0.113.9", config.TCP, 443)) {
		t.Error("a bridge without names needs one")
	}
}
