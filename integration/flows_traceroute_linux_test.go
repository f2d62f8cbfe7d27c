package integration_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F6: traceroute from inside a segment tells the routers on the way from each other
// and from its end, whatever it probes with: a `translate` segment sees their aliases, a
// `preserve` segment their own addresses. From outside the pseudo address is the end.
func TestTraceroute(t *testing.T) {
	t.Parallel()
	const end = "10.9.0.2"
	for name, want := range map[string]func(hops []string) bool{
		"translate": func(hops []string) bool {
			alias := netip.MustParseAddr(hops[1])
			return hops[0] == "192.168.50.2" && hops[1] != hops[0] && hops[1] != "192.168.50.1" &&
				netip.MustParsePrefix("192.168.50.0/24").Contains(alias)
		},
		"preserve": func(hops []string) bool { return hops[0] == "192.168.1.1" && hops[1] == "192.168.10.2" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newScene(t, paper.NetworkOptions{})
				s.addSecondRouter(netip.MustParseAddr(end))
				s.start(caddyfile{datapath: datapath, a: "ports any\negress any\nclient_ip " + name})
				var before []string
				for _, probes := range []string{"-U", "-I", "-T"} {
					hops := s.traceroute(s.Server, probes, "-s", "192.168.50.1", end)
					if len(hops) != 3 || !want(hops) || hops[2] != end {
						t.Errorf("traceroute %s shows %q", probes, hops)
					}
					if before != nil && !slices.Equal(hops, before) {
						t.Errorf("traceroute %s shows %q, and before %q", probes, hops, before)
					}
					before = hops
				}
				if hops := s.traceroute(s.PC1, "-U", "192.168.1.2"); !slices.Equal(hops, []string{"192.168.10.1", "192.168.1.2"}) {
					t.Errorf("traceroute from PC1 shows %q", hops)
				}
			})
		})
	}
}

// addSecondRouter makes PC1 a router of the host's family, with the host behind it.
func (s *scene) addSecondRouter(host netip.Addr) {
	s.t.Helper()
	far, err := s.NewHost("far")
	if err != nil {
		s.t.Fatal(err)
	}
	inner := host.Prev()
	network, via, forwarding := netip.PrefixFrom(host, 24), paper.PC1Addr, "net/ipv4/ip_forward"
	near, end := netlab.End{Host: s.PC1, Device: "behind"}, netlab.End{Host: far, Device: "eth0"}
	if host.Is4() {
		near.Address, end.Address = netip.PrefixFrom(inner, 24), network
	} else {
		network, via, forwarding = netip.PrefixFrom(host, 64), paper.PC1Addr6, "net/ipv6/conf/all/forwarding"
		near.V6, end.V6 = []netip.Prefix{netip.PrefixFrom(inner, 64)}, []netip.Prefix{network}
	}
	err = s.Link(near, end)
	if err == nil {
		err = far.DefaultRoute(inner)
	}
	if err == nil {
		err = s.PC1.Sysctl(forwarding, "1")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.ip(s.Router, "route add "+network.Masked().String()+" via "+via.String())
}

var hopLine = regexp.MustCompile(`(?m)^ *\d+ +(\S+)`)

// traceroute returns the hops that it shows, of which each is waited for as long as it
// takes on a busy machine. It asks again when a hop was silent: the kernel sets a raw
// socket's error after it wakes the reader (raw_err, net/ipv4/raw.c), and traceroute reads no
// answer any more from a socket whose error stays.
func (s *scene) traceroute(h *netlab.Host, args ...string) (hops []string) {
	s.t.Helper()
	args = append([]string{"-n", "-q", "1", "-N", "1", "-w", "2", "-m", "5"}, args...)
	for range 4 {
		out := s.run(h, "traceroute", args...)
		_, out, _ = strings.Cut(out, "\n")
		hops = nil
		for _, m := range hopLine.FindAllStringSubmatch(out, -1) {
			hops = append(hops, m[1])
		}
		if !slices.Contains(hops, "*") {
			break
		}
	}
	return hops
}
