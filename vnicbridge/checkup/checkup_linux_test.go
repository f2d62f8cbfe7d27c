package checkup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// A NIC without an IPv4 address of the host is not bare while the host's IPv6 is on there.
func TestNICIsNotBare(t *testing.T) {
	runtime.LockOSThread() // until the thread ends with the test's goroutine
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth1", HardwareAddr: net.HardwareAddr{0xaa, 0xbb, 0xcc, 0xdd, 0xee, 1}}, PeerName: "eth2"})
	if err != nil {
		t.Fatal(err)
	}
	eth1, err := netlink.LinkByName("eth1")
	eth2, err2 := netlink.LinkByName("eth2")
	if err := errors.Join(err, err2, set("eth2/disable_ipv6", "1"), set("eth1/disable_ipv6", "1"), netlink.LinkSetUp(eth1), netlink.LinkSetUp(eth2)); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{
		Datapath: config.DatapathUserspace,
		Segments: map[string]*config.Segment{"a": {Addresses: prefixes("192.168.50.1/24", "fd00:50::1/64"), Egress: config.EgressAny, DefaultRoute: true}},
		Bridges: map[string]*config.Bridge{"lan": {
			NIC: "eth1", Addresses: prefixes("192.168.1.2/24", "2001:db8:1::2/64"), Gateways: []netip.Addr{netip.MustParseAddr("fe80::1")},
			LBPolicy: &config.Policy{Policy: config.PolicyFirst, Segments: []string{"a"}},
		}},
	}
	add := func(text string) func() error {
		return func() error {
			return netlink.AddrAdd(eth1, &netlink.Addr{IPNet: host.IPNet(netip.MustParsePrefix(text)), Flags: unix.IFA_F_NODAD})
		}
	}
	const notBare = "bridge lan: nic eth1 has no IPv4 address, but the host's IPv6 is on there ("
	const fix = "sysctl -w net.ipv6.conf.eth1.disable_ipv6=1"
	for _, tt := range []struct {
		name  string
		do    func() error
		wants []string
		lacks string
	}{
		{"bare", func() error { return nil }, []string{"note: bridge lan: the host's IPv6 is off on nic eth1", "2001:db8:1::/64", "`link_local fe80::a8bb:ccff:fedd:ee01`"}, notBare},
		{"link-local address", func() error {
			return errors.Join(set("eth1/addr_gen_mode", "1"), set("eth1/disable_ipv6", "0"), add("fe80::5/64")())
		},
			[]string{"note: " + notBare + "fe80::5)", fix}, "link_local "},
		{"address", add("2001:db8:1::3/64"), []string{"warning: " + notBare, "2001:db8:1::3", fix}, "accept_ra"},
		{"default route of a router", func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: eth1.Attrs().Index, Gw: netip.MustParseAddr("fe80::1").AsSlice(), Protocol: unix.RTPROT_RA})
		}, []string{"warning: " + notBare, ", a default route)", "net.ipv6.conf.eth1.accept_ra=0", "warning: segment a: default_route: the host has an IPv6 default route by fe80::1"}, "error"},
		{"IPv4, too", add("192.168.1.3/24"), []string{
			"note: bridge lan: nic eth1 keeps the host's address 192.168.1.3: the bridge governs 192.168.1.2 and 2001:db8:1::2 alone",
			"note: bridge lan: nic eth1 keeps the host's address 2001:db8:1::3",
			"the host's default route leaves by nic eth1",
		}, "fe80::5"},
		{"IPv6 is forwarded", func() error { return set("all/forwarding", "1") }, []string{"note: ipv6.conf.all.forwarding is 1: harmless"}, "\nerror"},
	} {
		if err := tt.do(); err != nil { // no subtest, whose goroutine would be in another namespace
			t.Fatal(tt.name, err)
		}
		findings := ""
		for _, f := range Run(cfg, Options{}) {
			findings += fmt.Sprintf("\n%s: %s", f.Severity, f.Message)
		}
		for _, want := range tt.wants {
			if !strings.Contains(findings, want) {
				t.Errorf("%s: there is no %q in%s", tt.name, want, findings)
			}
		}
		if strings.Contains(findings, tt.lacks) {
			t.Errorf("%s: there is %q in%s", tt.name, tt.lacks, findings)
		}
	}
}

func set(name, value string) error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/"+name, []byte(value), 0)
}

func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, t := range texts {
		ps = append(ps, netip.MustParsePrefix(t))
	}
	return ps
}
