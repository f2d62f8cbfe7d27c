package integration_test

import (
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows A1, A9 and L5: where programs are filters of clsact, or the packet socket's filter is a
// classic one, a neighbour finds the pseudo address of IPv6, and the router reaches a segment.
// After Caddy was killed, the host gets all IPv6 again, the pseudo address too.
func TestIPv6OnOtherKernels(t *testing.T) {
	for kernel, datapath := range map[string]string{withoutTCX: "kernel", "without BPF": "userspace"} {
		t.Run(datapath, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
			s.onKernel(kernel)
			s.start(caddyfile{datapath: datapath, families: "46"})
			s.wantService6()
			neighbour := s.Neighbours[0]
			s.wantPing(neighbour, paper.PseudoAddr6)
			if got := s.ip(neighbour, "neigh show 2001:db8:1::2"); !strings.Contains(got, paper.NICMAC.String()) {
				t.Errorf("the neighbour says of the pseudo address: %q", got)
			}

			s.kill()
			s.run(s.Server, "sysctl", "-q", "net.ipv6.conf.nic0.disable_ipv6=0")
			s.ip(s.Server, "address add 2001:db8:1::2/64 dev nic0 nodad")
			s.ip(neighbour, "neigh flush all")
			s.waitFor("the host itself answers for the address", func() bool {
				ping, err := neighbour.Ping(t.Context(), paper.PseudoAddr6, netlab.PingOptions{Count: 1})
				return err == nil && ping.Lost() == 0
			})
		})
	}
}
