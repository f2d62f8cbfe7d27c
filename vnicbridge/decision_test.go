package vnicbridge

import (
	"fmt"
	"testing"
)

func TestSteerRules(t *testing.T) {
	a, b, c := &port{name: "a"}, &port{name: "b"}, &port{name: "c"}
	segments := map[string]*port{"a": a, "b": b, "c": c}
	table := compileDecisions(&Bridge{
		Steer: []Rule{
			{Segment: "a", Ports: []PortRange{{TCP, 80, 80}, {UDP, 443, 443}}},
			{Segment: "b", Clients: prefixes("10.20.0.0/16", "10.30.0.0/16"), Protocols: []Protocol{TCP}},
			{Segment: "c", Protocols: []Protocol{ICMP}},
			{Segment: "b", Ports: []PortRange{{TCP, 8000, 8099}}, Clients: prefixes("0.0.0.0/0")},
		},
	}, segments)
	for _, tc := range []struct {
		client string
		proto  Protocol
		port   uint16
		want   *port
	}{
		{"10.20.1.1", TCP, 80, a}, // the first match wins
		{"10.20.1.1", TCP, 81, b},
		{"10.30.255.255", TCP, 81, b},
		{"10.40.1.1", TCP, 81, nil},
		{"10.20.1.1", UDP, 80, nil}, // another protocol's port
		{"10.40.1.1", UDP, 443, a},
		{"10.20.1.1", ICMP, 0, c},
		{"10.40.1.1", TCP, 8099, b},
		{"10.40.1.1", TCP, 8100, nil},
	} {
		flow := tuple{src: mustAddr(tc.client), dst: mustAddr(pseudo), dport: tc.port, proto: tc.proto}
		if got := table.decide(flow); got != tc.want {
			t.Errorf("%s %s/%d: got %v, want %v", tc.client, tc.proto, tc.port, name(got), name(tc.want))
		}
	}
	// A rule whose segment is gone does not fall through.
	b.closed.Store(true)
	flow := tuple{src: mustAddr("10.20.1.1"), dport: 8000, proto: TCP}
	if got := table.decide(flow); got != nil {
		t.Errorf("fell through to %s", got.name)
	}
}

func name(p *port) string {
	if p == nil {
		return "none"
	}
	return p.name
}

func TestPolicies(t *testing.T) {
	pool := []*port{{name: "a"}, {name: "b"}, {name: "c"}}
	segments := map[string]*port{"a": pool[0], "b": pool[1], "c": pool[2]}
	picks := func(table *decisionTable, n int) (names string) {
		for range n {
			names += name(table.decide(tuple{proto: TCP})) + " "
		}
		return names
	}
	for _, tc := range []struct {
		policy    PolicyName
		closed    []int
		wantPicks string
	}{
		{PolicyFirst, nil, "a a a a "},
		{PolicyFirst, []int{0}, "b b b b "},
		{PolicyRoundRobin, nil, "a b c a "},
		{PolicyRoundRobin, []int{1}, "a c c a "},
		{PolicyRoundRobin, []int{0, 1, 2}, "none none none none "},
	} {
		t.Run(fmt.Sprint(tc.policy, tc.closed), func(t *testing.T) {
			for i, p := range pool {
				p.closed.Store(false)
				for _, c := range tc.closed {
					if c == i {
						p.closed.Store(true)
					}
				}
			}
			table := compileDecisions(&Bridge{LBPolicy: &Policy{tc.policy, []string{"a", "b", "c"}}}, segments)
			if got := picks(table, 4); got != tc.wantPicks {
				t.Errorf("picked %s, want %s", got, tc.wantPicks)
			}
		})
	}
}
