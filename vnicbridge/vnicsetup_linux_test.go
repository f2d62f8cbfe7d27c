package vnicbridge

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// The addresses of a segment of both families.
var bothOnA = [config.Families]netip.Prefix{netip.MustParsePrefix(serverA + "/24"), netip.MustParsePrefix("fd00:50::1/64")}

// apartVNIC makes a VNIC of this machine, in a namespace that only the test's goroutine has.
func apartVNIC(t *testing.T, addresses [config.Families]netip.Prefix) (m machine, dev host.VNIC) {
	t.Helper()
	runtime.LockOSThread() // until the thread ends with the test's goroutine
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	m, err := newMachine()
	if err != nil {
		t.Fatal(err)
	}
	dev, err = m.MakeVNIC(host.VNICSpec{Segment: "a", Iface: "vnic-A", Addresses: addresses, MAC: vnicAMAC})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, dev
}

// crowdedVNIC is a VNIC in a namespace of its own, in which a test does what it wants.
func crowdedVNIC(t *testing.T) (v *host.VNICSetup, want host.VNICSettings) {
	t.Helper()
	_, dev := apartVNIC(t, bothOnA)
	want = host.VNICSettings{
		MTU: 1500, Router: wayOnA6, Via: [config.Families]netip.Addr{netip.MustParseAddr(routerOnA), wayOnA6}, HostRoute: true,
		Neighbours: map[netip.Addr]config.MAC{wayOnA6: routerMAC, peerOnA6: hostMAC},
	}
	for i := range 253 {
		want.Neighbours[netip.AddrFrom4([4]byte{192, 168, 50, byte(2 + i)})] = routerMAC
	}
	setup := &dev.(*host.TAP).VNICSetup
	setup.Spec.Netns = "a" // where this is so, nobody else's rules are listed
	return setup, want
}

var (
	wayOnA6  = netip.MustParseAddr("fd00:50::2")
	peerOnA6 = netip.MustParseAddr("fd00:50::ffff") // another segment
)

func configured(t *testing.T, v *host.VNICSetup, want host.VNICSettings) (changed []string) {
	t.Helper()
	changed, err := v.Configure(want)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// crowdIn adds a route, a neighbour and, now and then, an address and a rule to those that a
// namespace has.
func crowdIn(t *testing.T, v *host.VNICSetup, link netlink.Link, i int, a netip.Addr, foreign map[netip.Addr]config.MAC) {
	t.Helper()
	foreign[a] = hostMAC
	own := host.IPNet(netip.PrefixFrom(a, a.BitLen()))
	if err := v.NS.Netlink.RouteAdd(&netlink.Route{LinkIndex: v.Ifindex, Dst: own, Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	if i%10 > 0 { // those take the kernel longer, the more there are
		return
	}
	if err := v.NS.Netlink.AddrAdd(link, &netlink.Addr{IPNet: own, Flags: unix.IFA_F_NODAD}); err != nil {
		t.Fatal(err)
	}
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = netlink.FAMILY_V4, 100+i, 100
	if a.Is6() {
		rule.Family = netlink.FAMILY_V6
	}
	if err := v.NS.Netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
}

// To look whether a VNIC is as it should be costs the same, however many neighbours,
// routes, addresses and rules whoever is root in the segment's namespace has made. What
// was changed there is put back still.
func TestUpkeepIsBounded(t *testing.T) {
	v, want := crowdedVNIC(t)
	configured(t, v, want)
	// The least of some attempts: the machine's watch allocates, too.
	allocated := func() uint64 {
		least := uint64(1 << 62)
		for range 10 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if changed := configured(t, v, want); len(changed) > 0 {
				t.Errorf("changed though nobody did: %v", changed)
			}
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		return least
	}
	alone := allocated()

	const crowd = 20000
	foreign := make(map[netip.Addr]config.MAC)
	h := v.NS.Netlink
	link, err := v.Link()
	if err != nil {
		t.Fatal(err)
	}
	for i := range crowd {
		crowdIn(t, v, link, i, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), foreign)
		if i%10 == 0 { // the kernel takes longer for those of IPv6
			crowdIn(t, v, link, i, netip.AddrFrom16([16]byte{0xfd, 1, 14: byte(i >> 8), 15: byte(i)}), foreign)
		}
	}
	socket, err := host.NewNeighbourSocket(v.NS, v.Ifindex)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	var hosts []netip.Addr
	for host := range foreign {
		hosts = append(hosts, host)
	}
	if err := socket.Set(hosts, foreign); err != nil {
		t.Fatal(err)
	}
	if crowded := allocated(); crowded > alone+alone/2 {
		t.Errorf("it takes %d bytes with %d of each beside what is wanted, and %d without", crowded, crowd, alone)
	}

	alias := netip.MustParseAddr("192.168.50.9")
	for _, change := range []struct {
		what string
		do   func() error
	}{
		{"neighbours", func() error {
			return h.NeighDel(&netlink.Neigh{LinkIndex: v.Ifindex, IP: alias.AsSlice()})
		}},
		{"neighbours", func() error {
			return socket.Set([]netip.Addr{alias}, map[netip.Addr]config.MAC{alias: hostMAC})
		}},
		{"neighbours", func() error { // no longer for good
			return h.NeighSet(&netlink.Neigh{LinkIndex: v.Ifindex, IP: alias.AsSlice(), HardwareAddr: routerMAC[:], State: netlink.NUD_REACHABLE})
		}},
		{"routes", func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Dst: host.IPNet(v.Spec.Addresses[config.IPv4].Masked()), Gw: v.Spec.Addresses[config.IPv4].Addr().AsSlice()})
		}},
		{"routes", func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Dst: host.IPNet(v.Spec.Addresses[config.IPv4].Masked()), Scope: netlink.SCOPE_LINK})
		}},
		{"address", func() error { return h.AddrDel(link, &netlink.Addr{IPNet: host.IPNet(v.Spec.Addresses[config.IPv4])}) }},
		{"rule", func() error { return h.RuleDel(v.Rule(config.IPv4, host.LatestPriority)) }},
		{"rule", func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Table: v.Table(), Dst: host.IPNet(v.Spec.Addresses[config.IPv4].Masked()), Scope: netlink.SCOPE_LINK})
		}},
		{"rule's default route", func() error { return h.RouteDel(v.DefaultRoute(want.Via[config.IPv4])) }},
		{"default route", func() error { return h.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Dst: host.Anywhere[config.IPv4]}) }},
	} {
		if err := change.do(); err != nil {
			t.Fatalf("%s: %v", change.what, err)
		}
		if changed := configured(t, v, want); !slices.Contains(changed, change.what) {
			t.Errorf("%s: put back %v", change.what, changed)
		}
		if changed := configured(t, v, want); len(changed) > 0 {
			t.Errorf("%s: again put back %v", change.what, changed)
		}
	}
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: host.IPNet(v.Spec.Addresses[config.IPv4].Masked()), Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil || len(routes) != 2 || !routes[0].Gw.Equal(v.Spec.Addresses[config.IPv4].Addr().AsSlice()) || routes[1].Gw != nil {
		t.Errorf("the routes are %v (%v), want by way of the VNIC's address, then on the link", routes, err)
	}

	// What the configuration wants otherwise is no change from outside.
	want.Via, want.MTU = [config.Families]netip.Addr{netip.MustParseAddr("192.168.50.3"), netip.MustParseAddr("fd00:50::3")}, 1400
	want.Router = want.Via[config.IPv6]
	want.Neighbours = map[netip.Addr]config.MAC{alias: hostMAC}
	if changed := configured(t, v, want); len(changed) > 0 {
		t.Errorf("after another configuration: changed from outside: %v", changed)
	}
	want.Via, want.HostRoute = [config.Families]netip.Addr{}, false
	if changed := configured(t, v, want); len(changed) > 0 {
		t.Errorf("without a rule: changed from outside: %v", changed)
	}
	if changed := configured(t, v, want); len(changed) > 0 {
		t.Errorf("without a rule, again: changed from outside: %v", changed)
	}
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: v.Ifindex, IP: alias.AsSlice(), HardwareAddr: routerMAC[:], State: netlink.NUD_PERMANENT}); err != nil {
		t.Fatal(err)
	}
	if changed := configured(t, v, want); !slices.Equal(changed, []string{"neighbours"}) {
		t.Errorf("a neighbour was changed from outside, and it says %v", changed)
	}
}
