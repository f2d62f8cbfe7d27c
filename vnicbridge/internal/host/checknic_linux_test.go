package host

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// Which devices can be a NIC, and what is said of the others, by what netlink tells of
// them: most of these kinds a test's machine does not have.
func TestNICKinds(t *testing.T) {
	attrs := func(name string, index, master int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, Index: index, MasterIndex: master, EncapType: "ether"}
	}
	generic := func(kind string, a netlink.LinkAttrs) netlink.Link {
		return &netlink.GenericLink{LinkAttrs: a, LinkType: kind}
	}
	masters := []netlink.Link{
		&netlink.Bond{LinkAttrs: attrs("bond0", 10, 0)}, &netlink.Bridge{LinkAttrs: attrs("br0", 11, 0)},
		&netlink.Vrf{LinkAttrs: attrs("red", 12, 0)}, generic("openvswitch", attrs("ovs-system", 13, 0)),
		generic("team", attrs("team0", 14, 0)), generic("hsr", attrs("hsr0", 15, 0)),
	}
	for _, tc := range []struct {
		nic  netlink.Link
		want string // what the error says; empty: there is none
	}{
		{&netlink.Device{LinkAttrs: attrs("eth1", 2, 0)}, ""},
		{&netlink.Veth{LinkAttrs: attrs("eth1", 2, 0)}, ""},
		{&netlink.Vlan{LinkAttrs: attrs("eth1.10", 2, 0)}, ""},
		{&netlink.Macvlan{LinkAttrs: attrs("mac0", 2, 0)}, ""},
		{&netlink.Bond{LinkAttrs: attrs("bond1", 2, 0)}, ""},
		{&netlink.Bridge{LinkAttrs: attrs("br1", 2, 0)}, ""},
		{generic("openvswitch", attrs("ovs-system", 2, 0)), "internal port"},
		{&netlink.Vrf{LinkAttrs: attrs("blue", 2, 0)}, "outside of the VRF"},
		{&netlink.IPVlan{LinkAttrs: attrs("ipv0", 2, 0)}, "make it a macvlan"},
		{&netlink.IPVtap{IPVlan: netlink.IPVlan{LinkAttrs: attrs("ipt0", 2, 0)}}, "make it a macvlan"},
		{&netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attrs("mvt0", 2, 0)}}, "make it a macvlan"},
		{&netlink.Device{LinkAttrs: attrs("eth1", 2, 10)}, "name bond0 as the nic"},
		{&netlink.Device{LinkAttrs: attrs("eth1", 2, 11)}, "name br0 as the nic"},
		{&netlink.Device{LinkAttrs: attrs("eth1", 2, 12)}, "ip link set eth1 nomaster"},
		{&netlink.Device{LinkAttrs: attrs("eth1", 2, 13)}, "ovs-vsctl del-port eth1"},
		{&netlink.Device{LinkAttrs: attrs("eth1", 2, 14)}, "name team0 as the nic"},
		{&netlink.Device{LinkAttrs: attrs("eth1", 2, 15)}, "name hsr0 as the nic"},
		{&netlink.Device{LinkAttrs: attrs("eth1", 2, 99)}, "a member of device 99"},
		{&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "wg0", EncapType: "none"}}, "no Ethernet device"},
	} {
		name := tc.nic.Attrs().Name
		devices := map[string]netlink.Link{name: tc.nic}
		for _, m := range masters {
			devices[m.Attrs().Name] = m
		}
		err := checkNIC(name, devices)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s (%s): %v, want %q", name, tc.nic.Type(), err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "name red as") {
			t.Errorf("%s: %v: a VRF passes no frames", name, err)
		}
	}
}
