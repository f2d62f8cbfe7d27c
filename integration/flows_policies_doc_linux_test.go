package integration_test

import (
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// Every rule and policy that docs/policies.md shows does what the page says.
func TestDocumentedPolicies(t *testing.T) {
	t.Parallel()
	const neighbour, pc1 = "192.168.1.11", "192.168.10.2"
	s := newCrowd(t, "auto")
	all := func(want string) func() { // in the order of HTTP, port 8001, UDP, ping
		return func() {
			s.t.Helper()
			if got := s.answers(neighbour) + " " + s.answers(pc1); got != want {
				s.t.Errorf("by HTTP, port 8001, UDP and ping %s and %s are answered by %s, want %s", neighbour, pc1, got, want)
			}
		}
	}
	shown := make(map[string]examples.Example)
	for _, e := range examples.On(t, "docs/policies.md") {
		if e.Language == "" {
			shown[strings.TrimSpace(e.Text)] = e
		}
	}
	for _, tt := range []struct {
		lines string
		says  func()
	}{
		{"lb_policy least_conn a b", s.wantLeastConn}, // while there are no other flows
		{"lb_policy first a b", func() {
			all("aaaa aaaa")()
			s.vnic("drain", "a")
			all("bbbb bbbb")()
			s.vnic("activate", "a")
			all("aaaa aaaa")()
		}},
		{"lb_policy first b a", func() { s.wantShare(4, "bbbb") }},
		{"lb_policy round_robin a b", func() { s.wantShare(4, "abab") }},
		{"lb_policy weighted_round_robin a b", func() { s.wantShare(8, "aabaaaba") }},
		{"lb_policy ip_hash a b", s.wantOneEach},
		{"steer a port tcp/80 tcp/443 udp/443\nsteer b port tcp/8000-8099 udp/5000\nsteer a protocol icmp", all("abba abba")},
		{"steer b client 192.168.1.0/24\nlb_policy first a", all("bbbb aaaa")},
		{"steer a client 192.168.1.11\nsteer b client 192.168.1.0/24 port tcp/80\nlb_policy first a", func() {
			all("aaaa aaaa")()
			s.wantByHTTP("192.168.1.31", "b")
		}},
		{"lb_policy flow_hash a b", func() { s.wantBoth(80) }},
	} {
		t.Run(strings.ReplaceAll(tt.lines, "\n", ", "), func(t *testing.T) {
			example, ok := shown[tt.lines]
			if !ok {
				t.Fatal("the page does not show this")
			}
			delete(shown, tt.lines)
			defer s.in(t)()
			s.policy(example.Runs(t))
			tt.says()
		})
	}
	for lines := range shown {
		t.Errorf("the page shows %q, which is not tried", lines)
	}
}

func (s *crowd) wantByHTTP(client, want string) {
	s.t.Helper()
	if got := s.byHTTP(client); got != want {
		s.t.Errorf("%s is answered by %s, want %s", client, got, want)
	}
}

// wantBoth checks that the flows of one client are answered by either segment.
func (s *crowd) wantBoth(flows int) {
	s.t.Helper()
	var by string
	for range flows {
		by += s.byUDP(s.clients[0])
	}
	if !strings.Contains(by, "a") || !strings.Contains(by, "b") {
		s.t.Errorf("flows of one client are answered by %s", by)
	}
}

// wantOneEach checks that a client's requests and datagrams have one segment, and
// that not all clients have the same.
func (s *crowd) wantOneEach() {
	s.t.Helper()
	by := make(map[string]bool)
	for _, client := range s.clients {
		by[s.byHTTP(client)+s.byUDP(client)] = true
	}
	if len(by) != 2 || !by["aa"] || !by["bb"] {
		s.t.Errorf("clients are answered by %v, want each by one segment", by)
	}
}
