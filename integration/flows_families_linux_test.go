package integration_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Row F14: a segment without an address of the flow's family is no candidate for it, whether
// a policy or a rule gives flows, and whatever is set by hand. The status says who is.
func TestFamilies(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, global: "skip_install_trust"})
		// b has no IPv6 address.
		load := func(policy string) {
			both := caddyfile{datapath: datapath, families: "46", gateway6: "fe80::1", a: "ports any", b: "ports any", policy: policy}
			s.loadText(strings.Replace(both.String(), " fd00:60::1/64", "", 1))
		}
		load("lb_policy round_robin a b")
		for address, name := range map[string]string{"192.168.50.1": "a", server6: "a", "192.168.60.1": "b"} {
			s.listen(s.Server, address+":9000", say(name))
		}
		s.wantFrom("192.168.1.2", "ab")
		s.wantFrom(pseudo6, "a")
		s.wantCandidates("a b", "a")
		s.wantGateways()
		if flows := s.vnic("flows", "--client", "2001:db8:10::/64"); !strings.Contains(flows, "[2001:db8:10::2]") || strings.Contains(flows, "192.168.10.2") {
			t.Errorf("the flows of PC1's IPv6 network are\n%s", flows)
		}

		s.vnic("switch", "lan", "b")
		s.wantFrom("192.168.1.2", "b")
		s.wantFrom(pseudo6, "a")
		s.vnic("switch", "lan", "--undo")

		s.vnic("drain", "a")
		s.wantFrom("192.168.1.2", "b")
		s.wantRefused(pseudo6 + ":9000")
		s.wantCandidates("b", "-")
		s.vnic("activate", "a")

		load("steer b port tcp/9000\nlb_policy first a")
		s.wantInLog("bridge lan: segment b has no IPv6 address, so the IPv6 flows that steer rule 1 matches get no segment")
		s.wantFrom("192.168.1.2", "b")
		s.wantRefused(pseudo6 + ":9000")
		// A rule for clients of one family is none for those of the other.
		const four, six = "steer b port tcp/9000 client 192.168.0.0/16\n", "steer a port tcp/9000 client 2001:db8:10::/64\n"
		for _, policy := range []string{four + six + "lb_policy first b", six + four + "lb_policy first a"} {
			load(policy)
			s.wantFrom("192.168.1.2", "b")
			s.wantFrom(pseudo6, "a")
		}
	})
}

// wantFrom checks which segments answer PC1 at an address, over several connections.
func (s *scene) wantFrom(address, want string) {
	s.t.Helper()
	names := make(map[string]bool)
	for range 6 {
		said, err := hear(s.PC1, address+":9000", 5*time.Second)
		if err != nil {
			s.t.Fatalf("%s: %v", address, err)
		}
		names[said] = true
	}
	if got := strings.Join(slices.Sorted(maps.Keys(names)), ""); got != want {
		s.t.Errorf("at %s the segments %s answer, want %s", address, got, want)
	}
}

// wantCandidates checks which segments new flows of each family can get, as the status says.
func (s *scene) wantCandidates(four, six string) {
	s.t.Helper()
	if text := s.vnic("status"); !regexp.MustCompile(fmt.Sprintf(`(?m)^BRIDGE +NEW FLOWS +GO TO\nlan +IPv4 +%s\nlan +IPv6 +%s$`, four, six)).MatchString(text) {
		s.t.Errorf("the candidates are not %s and %s:\n%s", four, six, text)
	}
	candidates := s.status().Bridges["lan"].Candidates
	if got := strings.Join(candidates[config.IPv4], " "); got != four {
		s.t.Errorf("the IPv4 candidates are %q, want %q", got, four)
	}
	if got := strings.Join(candidates[config.IPv6], " "); got != strings.TrimPrefix(six, "-") {
		s.t.Errorf("the IPv6 candidates are %q, want %q", got, six)
	}
}

// wantGateways checks that the status shows the gateways of both families with their MAC.
func (s *scene) wantGateways() {
	s.t.Helper()
	s.waitFor("both gateways are resolved", func() bool {
		return strings.Contains(s.vnic("status"), fmt.Sprintf(" 192.168.1.1 (%[1]s) fe80::1 (%[1]s) ", paper.RouterMAC))
	})
	for _, gateway := range s.status().Bridges["lan"].Gateways {
		if gateway.MAC.String() != paper.RouterMAC.String() {
			s.t.Errorf("the status says %+v", gateway)
		}
	}
}

// frontOfBothFamilies has a front of both families before two segments of one.
const frontOfBothFamilies = `{
	skip_install_trust
	vnic {
		segment four {
			address 192.168.50.1/24
		}
		segment six {
			address fd00:60::1/64
		}
		segment front {
			address fd00:40::1/64 192.168.40.1/24
			reach four six
		}
		bridge lan {
			nic nic0
			address 192.168.1.2/24 2001:db8:1::2/64
			gateway 192.168.1.1 fe80::1
			lb_policy first front
		}
		datapath %s
	}
	servers {
		trusted_proxies vnic
	}
}
http:// {
	bind vnic/front
	vnic_proxy /four four
	vnic_proxy /six six
}
http:// {
	bind vnic/four
	respond "four {remote_host} {client_ip}"
}
http:// {
	bind vnic/six
	respond "six {remote_host} {client_ip}"
}
`

// The bridge never translates between the families; a front serves clients of both from a
// segment of one.
func TestFrontOfBothFamilies(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		if err := s.tryStart(fmt.Sprintf(frontOfBothFamilies, datapath)); err != nil {
			t.Fatal(err)
		}
		for at, client := range map[string]string{"192.168.1.2": paper.PC1Addr.String(), pseudo6: paper.PC1Addr6.String()} {
			for path, want := range map[string]string{"/four": "four 192.168.40.1 ", "/six": "six fd00:40::1 "} {
				if got := s.get("http://" + at + path); got != want+client {
					t.Errorf("by %s, %s says %q, want %q", at, path, got, want+client)
				}
			}
		}
	})
}
