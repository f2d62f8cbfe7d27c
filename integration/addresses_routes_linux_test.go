package integration_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A6: the routing table is that of the paper's Fig-4, and everything works
// whatever the reverse path filter is set to: pages, pings, and the server's own
// ping of the router by its alias.
func TestRoutesAndReversePathFilter(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		s.start(caddyfile{datapath: datapath})
		s.wantRoutesOfThePaper()
		for _, filter := range []string{"0", "1", "2"} {
			for _, device := range []string{"all", "default", "vnic-A"} {
				if err := s.Server.Sysctl("net/ipv4/conf/"+device+"/rp_filter", filter); err != nil {
					t.Fatal(err)
				}
			}
			t.Run("rp_filter "+filter, func(t *testing.T) {
				if got := s.get("http://192.168.1.2/"); got != "a" {
					t.Errorf("PC1 got %q", got)
				}
				s.wantPing(s.PC1, paper.PseudoAddr)
				s.wantPing(s.Server, netip.MustParseAddr("192.168.50.2"))
			})
		}
	})
}

func (s *scene) wantRoutesOfThePaper() {
	s.t.Helper()
	routes, err := s.Server.Routes()
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, r := range routes {
		got = append(got, r.String())
	}
	var want []string
	for _, segment := range []struct{ third, device string }{{"50", "vnic-A"}, {"60", "vnic-B"}} {
		for _, hop := range []struct{ gateway, flags string }{{"192.168." + segment.third + ".1", "UG"}, {"0.0.0.0", "U"}} {
			want = append(want, fmt.Sprintf("192.168.%s.0/24 %-12s %-2s 0 %s", segment.third, hop.gateway, hop.flags, segment.device))
		}
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("the routes are\n%q, want\n%q", got, want)
	}
}

// wantPing checks that every ping is answered, once.
func (s *scene) wantPing(from *netlab.Host, to netip.Addr) {
	s.t.Helper()
	ping, err := from.Ping(s.t.Context(), to, netlab.PingOptions{Count: 3, Interval: 5 * time.Millisecond})
	if err != nil || ping.Lost() > 0 || ping.Duplicates > 0 {
		s.t.Errorf("%s: ping %s: %+v (%v)", from.Namespace(), to, ping, err)
	}
}
