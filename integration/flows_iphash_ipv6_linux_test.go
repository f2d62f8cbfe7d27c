package integration_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows F10 and L1: ip_hash takes all addresses of a /64 for one client, which keeps its
// segment, and gives other networks segments of their own.
func TestIPHashIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{datapath: datapath, families: "46", policy: "lb_policy ip_hash a b"})
		s.wantPing(s.PC1, paper.PseudoAddr6)
		segments := make(map[string]bool)
		for network := range 24 {
			s.ip(s.Router, fmt.Sprintf("-6 route add 2001:db8:20:%x::/64 via 2001:db8:10::2", network))
			var answers []string
			for host := range 3 {
				from := netip.MustParseAddr(fmt.Sprintf("2001:db8:20:%x:%x::%x", network, host*1000, host+1))
				s.ip(s.PC1, "-6 address add "+from.String()+"/128 dev eth0 nodad")
				answers = append(answers, s.run(s.PC1, "curl", "-sS", "--max-time", "5", "--interface", from.String(), "http://"+pseudo6+"/"))
			}
			if one := strings.Repeat(answers[0], len(answers)); strings.Join(answers, "") != one {
				t.Errorf("the addresses of one network get the segments %s", answers)
			}
			segments[answers[0]] = true
		}
		if len(segments) != 2 { // by chance all get the same one in 8 million starts
			t.Errorf("all networks get the segments %v, want both", segments)
		}
	})
}
