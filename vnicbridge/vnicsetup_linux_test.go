package vnicbridge

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// crowdedVNIC is a VNIC in a namespace of its own, in which a test does what it wants.
func crowdedVNIC(t *testing.T) (v *vnicSetup, want vnicSettings) {
	t.Helper()
	runtime.LockOSThread() // until the thread ends with the test's goroutine
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	m, err := newMachine()
	if err != nil {
		t.Fatal(err)
	}
	spec := vnicSpec{segment: "a", iface: "vnic-A", address: netip.MustParsePrefix(serverA + "/24"), mac: vnicAMAC}
	dev, err := m.makeVNIC(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.close(); err != nil {
			t.Error(err)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
	want = vnicSettings{mtu: 1500, via: netip.MustParseAddr(routerOnA), hostRoute: true, neighbours: make(map[netip.Addr]MAC)}
	for i := range 253 {
		want.neighbours[netip.AddrFrom4([4]byte{192, 168, 50, byte(2 + i)})] = routerMAC
	}
	setup := &dev.(*tap).vnicSetup
	setup.spec.netns = "a" // where this is so, nobody else's rules are listed
	return setup, want
}

func configured(t *testing.T, v *vnicSetup, want vnicSettings) (changed []string) {
	t.Helper()
	changed, err := v.configure(want)
	if err != nil {
		t.Fatal(err)
	}
	return changed
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
	foreign := make(map[netip.Addr]MAC)
	h := v.ns.netlink
	link, err := v.link()
	if err != nil {
		t.Fatal(err)
	}
	for i := range crowd {
		host := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		foreign[host] = hostMAC
		if err := h.RouteAdd(&netlink.Route{LinkIndex: v.ifindex, Dst: ipNet(netip.PrefixFrom(host, 32)), Scope: netlink.SCOPE_LINK}); err != nil {
			t.Fatal(err)
		}
		if i%10 > 0 { // those take the kernel longer, the more there are
			continue
		}
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(host, 32))}); err != nil {
			t.Fatal(err)
		}
		rule := netlink.NewRule()
		rule.Family, rule.Priority, rule.Table = netlink.FAMILY_V4, 100+i, 100
		if err := h.RuleAdd(rule); err != nil {
			t.Fatal(err)
		}
	}
	socket, err := newNeighbourSocket(v.ns, v.ifindex)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.close()
	var hosts []netip.Addr
	for host := range foreign {
		hosts = append(hosts, host)
	}
	if err := socket.set(hosts, foreign); err != nil {
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
			return h.NeighDel(&netlink.Neigh{LinkIndex: v.ifindex, IP: alias.AsSlice()})
		}},
		{"neighbours", func() error {
			return socket.set([]netip.Addr{alias}, map[netip.Addr]MAC{alias: hostMAC})
		}},
		{"neighbours", func() error { // no longer for good
			return h.NeighSet(&netlink.Neigh{LinkIndex: v.ifindex, IP: alias.AsSlice(), HardwareAddr: routerMAC[:], State: netlink.NUD_REACHABLE})
		}},
		{"routes", func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.ifindex, Dst: ipNet(v.spec.address.Masked()), Gw: v.spec.address.Addr().AsSlice()})
		}},
		{"routes", func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.ifindex, Dst: ipNet(v.spec.address.Masked()), Scope: netlink.SCOPE_LINK})
		}},
		{"address", func() error { return h.AddrDel(link, &netlink.Addr{IPNet: ipNet(v.spec.address)}) }},
		{"rule", func() error { return h.RuleDel(v.rule(latestPriority)) }},
		{"rule", func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.ifindex, Table: v.table(), Dst: ipNet(v.spec.address.Masked()), Scope: netlink.SCOPE_LINK})
		}},
		{"rule's default route", func() error { return h.RouteDel(v.defaultRoute(want.via)) }},
		{"default route", func() error { return h.RouteDel(&netlink.Route{LinkIndex: v.ifindex, Dst: anywhere}) }},
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
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: ipNet(v.spec.address.Masked()), Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil || len(routes) != 2 || !routes[0].Gw.Equal(v.spec.address.Addr().AsSlice()) || routes[1].Gw != nil {
		t.Errorf("the routes are %v (%v), want by way of the VNIC's address, then on the link", routes, err)
	}

	// What the configuration wants otherwise is no change from outside.
	want.via, want.mtu = netip.MustParseAddr("192.168.50.3"), 1400
	want.neighbours = map[netip.Addr]MAC{alias: hostMAC}
	if changed := configured(t, v, want); len(changed) > 0 {
		t.Errorf("after another configuration: changed from outside: %v", changed)
	}
	want.via, want.hostRoute = netip.Addr{}, false
	if changed := configured(t, v, want); len(changed) > 0 {
		t.Errorf("without a rule: changed from outside: %v", changed)
	}
	if changed := configured(t, v, want); len(changed) > 0 {
		t.Errorf("without a rule, again: changed from outside: %v", changed)
	}
	if err := h.NeighSet(&netlink.Neigh{LinkIndex: v.ifindex, IP: alias.AsSlice(), HardwareAddr: routerMAC[:], State: netlink.NUD_PERMANENT}); err != nil {
		t.Fatal(err)
	}
	if changed := configured(t, v, want); !slices.Equal(changed, []string{"neighbours"}) {
		t.Errorf("a neighbour was changed from outside, and it says %v", changed)
	}
}
