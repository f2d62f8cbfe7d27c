package host

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// apart takes the test's goroutine into a network namespace of its own.
func apart(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // until the thread ends with the test's goroutine
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
}

// opened opens the machine of the test's namespace.
func opened(t *testing.T) *Machine {
	t.Helper()
	m, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func rule6(priority, table int, protocol uint8) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table, rule.Protocol = netlink.FAMILY_V6, priority, table, protocol
	rule.Src = IPNet(netip.MustParsePrefix("fd00:50::1/128"))
	return rule
}

// Row A6: a rule of IPv6 that a killed process left is removed by the next start, and what
// others have is left alone: a living process's table has routes.
func TestStaleRulesOfIPv6(t *testing.T) {
	apart(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	living := &netlink.Route{LinkIndex: lo.Attrs().Index, Table: ruleTables + 78, Dst: IPNet(netip.MustParsePrefix("fd00:50::/64"))}
	if err := errors.Join(netlink.LinkSetUp(lo), netlink.RouteAdd(living)); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*netlink.Rule{rule6(1000, ruleTables+77, ruleProtocol), rule6(1000, ruleTables+78, ruleProtocol), rule6(1001, 52, 0)} {
		if err := netlink.RuleAdd(r); err != nil {
			t.Fatal(err)
		}
	}
	m := opened(t)
	rules, err := listRules(m.NS, config.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[int]bool{ruleTables + 77: false, ruleTables + 78: true, 52: true} {
		if stands := slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Table == table }); stands != want {
			t.Errorf("the rule of table %d stands: %v, want %v: %v", table, stands, want, rules)
		}
	}
}

// Row A6: rules of IPv6 that come before ours are told of as those of IPv4 are.
func TestRulesAheadOfIPv6(t *testing.T) {
	apart(t)
	m := opened(t)
	if told := m.RulesAhead(config.IPv4, config.IPv6); len(told) > 0 {
		t.Errorf("without a rule of others: %v", told)
	}
	for range 2 { // before the second rule there is room
		if err := netlink.RuleAdd(rule6(0, 52, 0)); err != nil && err.Error() != "file exists" {
			t.Fatal(err)
		}
	}
	told := m.RulesAhead(config.IPv4, config.IPv6)
	if len(told) != 1 || !strings.Contains(told[0], "ip -6 rule") {
		t.Errorf("told: %v", told)
	}
	if m.HasRules(config.IPv6) {
		t.Error("a rule of others is taken for ours")
	}
}

// The host's addresses are listed in both families, each with its device.
func TestHostPrefixes(t *testing.T) {
	apart(t)
	m := opened(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: IPNet(netip.MustParsePrefix(text))}); err != nil {
			t.Fatal(err)
		}
	}
	prefixes, err := m.HostPrefixes()
	for _, text := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		if want := (Prefix{"lo", netip.MustParsePrefix(text)}); err != nil || !slices.Contains(prefixes, want) {
			t.Errorf("%v (%v) lack %v", prefixes, err, want)
		}
	}
}

// What keeps a configuration with IPv6 from being put in force: an MTU that is too small, and
// a static default route beside default_route, and a link-local address that the host has on
// the NIC. Other link-local addresses are in nobody's way.
func TestProblemsOfIPv6(t *testing.T) {
	apart(t)
	m := opened(t)
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth1", MTU: 1279}, PeerName: "eth2"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{
		Segments: map[string]*config.Segment{"a": {Addresses: []netip.Prefix{netip.MustParsePrefix("fd00:50::1/64")}, Egress: config.EgressAny, DefaultRoute: true}},
		Bridges: map[string]*config.Bridge{"lan": {
			NIC: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::2/64")}, Gateways: []netip.Addr{netip.MustParseAddr("fe80::1")},
			LBPolicy: &config.Policy{Policy: config.PolicyFirst, Segments: []string{"a"}},
		}},
	}
	problem := func() string {
		if err := m.Check(cfg, nil); err != nil {
			return err.Error()
		}
		return ""
	}
	if got := problem(); !strings.Contains(got, "nic eth1 has an MTU of 1279, and IPv6 needs 1280: raise it (ip link set eth1 mtu 1280)") {
		t.Errorf("a small MTU: %q", got)
	}
	eth1, err := netlink.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	eth2, err := netlink.LinkByName("eth2")
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func() error{
		func() error { return netlink.LinkSetMTU(eth1, 1500) },
		func() error { return netlink.LinkSetUp(eth2) },
		func() error { return netlink.LinkSetUp(eth1) },
		func() error {
			return netlink.AddrAdd(eth1, &netlink.Addr{IPNet: IPNet(netip.MustParsePrefix("fe80::1/64"))})
		},
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	if got := problem(); got != "" {
		t.Errorf("nothing is wrong, and it says %q", got)
	}
	cfg.Bridges["lan"].LinkLocal = netip.MustParseAddr("fe80::1")
	if got := problem(); !strings.Contains(got, "link_local fe80::1 is this host's own address on eth1") {
		t.Errorf("a link-local address that the host has: %q", got)
	}
	cfg.Bridges["lan"].LinkLocal = netip.MustParseAddr("fe80::3")
	route := &netlink.Route{LinkIndex: eth1.Attrs().Index, Dst: Anywhere[config.IPv6], Gw: netip.MustParseAddr("fe80::2").AsSlice(), Protocol: 9} // RTPROT_RA
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	if got := problem(); got != "" {
		t.Errorf("a router advertised itself, and it says %q", got)
	}
	route.Protocol, route.Priority = 0, 50
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	if got := problem(); !strings.Contains(got, "default via fe80::2 dev eth1 metric 50") {
		t.Errorf("a default route: %q", got)
	}
}
