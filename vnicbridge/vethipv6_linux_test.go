package vnicbridge

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// A segment in a namespace of its own has its IPv6 on the inner end. The outer end has none,
// also after an MTU that resets its settings.
func TestVethOfIPv6(t *testing.T) {
	runtime.LockOSThread() // until the thread ends with the test's goroutine
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	m, err := newMachine()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("veth6-%d", os.Getpid())
	dev, err := m.MakeVNIC(host.VNICSpec{Segment: "a", Iface: "vnic-A", Addresses: bothOnA, MAC: vnicAMAC, Netns: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(dev.Close(), m.Close()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(host.NetnsDirectory + name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the namespace stays: %v", err)
		}
	})
	want := host.VNICSettings{
		MTU: 1500, Router: wayOnA6, HostRoute: true, Via: [config.Families]netip.Addr{netip.MustParseAddr(routerOnA), wayOnA6},
		Neighbours: map[netip.Addr]config.MAC{wayOnA6: routerMAC},
	}
	configure := func() (changed []string) {
		t.Helper()
		changed, err := dev.Configure(want)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	configure()
	if changed := configure(); len(changed) > 0 {
		t.Errorf("changed though nobody did: %v", changed)
	}
	outer, err := netlink.LinkByName("vnic-A")
	if err != nil {
		t.Fatal(err)
	}
	wantBare := func(when string) {
		t.Helper()
		addresses, err := netlink.AddrList(outer, netlink.FAMILY_ALL)
		off, err2 := os.ReadFile("/proc/sys/net/ipv6/conf/vnic-A/disable_ipv6")
		if err != nil || err2 != nil || len(addresses) > 0 || string(off) != "1\n" {
			t.Errorf("%s the outer end has %v (%v), disable_ipv6 is %q (%v)", when, addresses, err, off, err2)
		}
	}
	wantBare("at first")
	err = errors.Join(netlink.LinkSetMTU(outer, 1000), netlink.LinkSetMTU(outer, 1500))
	if err != nil {
		t.Fatal(err)
	}
	if changed := configure(); !slices.Contains(changed, "outer end") {
		t.Errorf("put back %v", changed)
	}
	wantBare("after a small MTU")

	var inside []netlink.Addr
	var src string
	err = dev.Do(func() error {
		link, err := netlink.LinkByName("vnic-A")
		if err != nil {
			return err
		}
		inside, err = netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		routes, err := netlink.RouteGet(netip.MustParseAddr("2001:db8:9::9").AsSlice())
		if err == nil {
			src = routes[0].Src.String()
		}
		return err
	})
	if err != nil || len(inside) != 1 || !strings.HasPrefix(inside[0].String(), "fd00:50::1/64") || src != "fd00:50::1" {
		t.Errorf("inside there are %v (%v), and packets leave from %s", inside, err, src)
	}
}
