package vnicbridge

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// vnicIPv6 makes a VNIC of both families, and returns how it is to be.
func vnicIPv6(t *testing.T) (m machine, v *host.TAP, want host.VNICSettings) {
	t.Helper()
	m, dev := apartVNIC(t, bothOnA)
	want = host.VNICSettings{
		MTU: 1500, NIC: "eth1", Router: wayOnA6, HostRoute: true,
		Via: [config.Families]netip.Addr{netip.MustParseAddr(routerOnA), wayOnA6},
		Neighbours: map[netip.Addr]config.MAC{
			netip.MustParseAddr(routerOnA): routerMAC, wayOnA6: routerMAC, peerOnA6: hostMAC,
		},
	}
	return m, dev.(*host.TAP), want
}

// awaitLocal waits until the host receives what is for the VNIC's address: the kernel adds the
// route for that a moment after the address.
func awaitLocal(t *testing.T, v *host.TAP) {
	t.Helper()
	for range 500 {
		routes, err := v.NS.Netlink.RouteGet(bothOnA[config.IPv6].Addr().AsSlice())
		if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the VNIC's address is no address of the host")
}

// Rows A3, A6: the segment's IPv6 network is behind the gateway's alias, fixed aliases are
// neighbours, and packets from the VNIC's address leave by the VNIC.
func TestVNICOfIPv6(t *testing.T) {
	_, v, want := vnicIPv6(t)
	configured(t, &v.VNICSetup, want)
	link, err := v.Link()
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := v.NS.Netlink.AddrList(link, netlink.FAMILY_V6)
	const flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_PERMANENT
	if err != nil || len(addresses) != 1 || addresses[0].Flags != flags {
		t.Errorf("the addresses are %v (%v), want the segment's alone, which can be used at once", addresses, err)
	}
	derived, outside := netip.MustParseAddr("fd00:50::8123:4567:89ab:cdef"), netip.MustParseAddr("2001:db8:9::9")
	for _, tt := range []struct{ to, from, via netip.Addr }{
		{to: wayOnA6},
		{to: peerOnA6},
		{to: derived, via: wayOnA6},
		{to: outside, via: wayOnA6},
		{to: peerOnA6, from: bothOnA[config.IPv6].Addr()},
		{to: derived, from: bothOnA[config.IPv6].Addr(), via: wayOnA6},
		{to: outside, from: bothOnA[config.IPv6].Addr(), via: wayOnA6},
	} {
		options := &netlink.RouteGetOptions{}
		if tt.from.IsValid() {
			options.SrcAddr = tt.from.AsSlice()
		}
		routes, err := v.NS.Netlink.RouteGetWithOptions(tt.to.AsSlice(), options)
		if err != nil || len(routes) != 1 {
			t.Fatalf("%s from %s: %v (%v)", tt.to, tt.from, routes, err)
		}
		r := routes[0]
		via, _ := netip.AddrFromSlice(r.Gw)
		if src, _ := netip.AddrFromSlice(r.Src); r.LinkIndex != v.Ifindex || via != tt.via || !tt.from.IsValid() && src != bothOnA[config.IPv6].Addr() {
			t.Errorf("%s from %s: %v, want the VNIC, via %s", tt.to, tt.from, r, tt.via)
		}
	}
	if changed := configured(t, &v.VNICSetup, want); len(changed) > 0 {
		t.Errorf("changed though nobody did: %v", changed)
	}
}

// Row L3: whatever becomes of a VNIC's IPv6 is put right, and told in the words of IPv4.
func TestVNICOfIPv6IsPutBack(t *testing.T) {
	m, v, want := vnicIPv6(t)
	configured(t, &v.VNICSetup, want)
	awaitLocal(t, v)
	h, own := v.NS.Netlink, bothOnA[config.IPv6]
	link, err := v.Link()
	if err != nil {
		t.Fatal(err)
	}
	rule := func() *netlink.Rule {
		rules, err := h.RuleList(netlink.FAMILY_V6)
		at := slices.IndexFunc(rules, func(r netlink.Rule) bool { return r.Table == v.Table() })
		if err != nil || at < 0 {
			t.Fatalf("the rules are %v (%v)", rules, err)
		}
		return &rules[at]
	}
	set := func(name, value string) func() error {
		return func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/vnic-A/"+name, []byte(value), 0)
		}
	}
	for _, change := range []struct {
		name, told string
		do         func() error
		silent     bool // the kernel tells nobody
	}{
		{name: "down", told: "state", do: func() error { return h.LinkSetDown(link) }},
		{name: "down and up", told: "routes", do: func() error { return errors.Join(h.LinkSetDown(link), h.LinkSetUp(link)) }},
		{name: "MTU", told: "MTU", do: func() error { return h.LinkSetMTU(link, 1400) }},
		{name: "MTU below IPv6's least", told: "sysctls", do: func() error { return h.LinkSetMTU(link, 1279) }},
		{name: "MTU below IPv6's least, and back", told: "sysctls", do: func() error {
			return errors.Join(h.LinkSetMTU(link, 1000), h.LinkSetMTU(link, 1500))
		}},
		{name: "MTU of IPv6", told: "sysctls", do: set("mtu", "1280"), silent: true},
		{name: "IPv6 off", told: "address", do: set("disable_ipv6", "1")},
		{name: "link-local address", told: "sysctls", do: set("addr_gen_mode", "0")},
		{name: "router advertisements", told: "sysctls", do: set("accept_ra", "2"), silent: true},
		{name: "source routes", told: "sysctls", do: set("accept_source_route", "1"), silent: true},
		{name: "addresses not kept", told: "sysctls", do: set("keep_addr_on_down", "0"), silent: true},
		{name: "address", told: "address", do: func() error { return h.AddrDel(link, &netlink.Addr{IPNet: host.IPNet(own)}) }},
		{name: "network's route", told: "routes", do: func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Dst: host.IPNet(own.Masked())})
		}},
		{name: "alias's route", told: "routes", do: func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Dst: host.IPNet(netip.PrefixFrom(wayOnA6, 128))})
		}},
		{name: "rule", told: "rule", do: func() error { return h.RuleDel(rule()) }},
		{name: "network's route of the rule", told: "rule", do: func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Table: v.Table(), Dst: host.IPNet(own.Masked())})
		}},
		{name: "default route of the rule", told: "rule's default route", do: func() error { return h.RouteDel(v.DefaultRoute(wayOnA6)) }},
		{name: "default route", told: "default route", do: func() error {
			return h.RouteDel(&netlink.Route{LinkIndex: v.Ifindex, Dst: host.Anywhere[config.IPv6]})
		}},
		{name: "neighbour", told: "neighbours", do: func() error {
			return h.NeighDel(&netlink.Neigh{LinkIndex: v.Ifindex, IP: peerOnA6.AsSlice()})
		}},
		{name: "neighbour's MAC", told: "neighbours", do: func() error {
			return h.NeighSet(&netlink.Neigh{LinkIndex: v.Ifindex, IP: wayOnA6.AsSlice(), HardwareAddr: hostMAC[:], State: netlink.NUD_PERMANENT})
		}},
	} {
		before := stateIPv6(t, &v.VNICSetup)
		drain(m.Changes())
		if err := change.do(); err != nil { // no subtest, whose goroutine would be in another namespace
			t.Fatal(change.name, err)
		}
		if !change.silent {
			select {
			case <-m.Changes():
			case <-time.After(5 * time.Second):
				t.Errorf("%s: nobody was told", change.name)
			}
		}
		if changed := configured(t, &v.VNICSetup, want); !slices.Contains(changed, change.told) {
			t.Errorf("%s: put back %v, want %s", change.name, changed, change.told)
		}
		wantStateIPv6(t, &v.VNICSetup, change.name, before)
		if changed := configured(t, &v.VNICSetup, want); len(changed) > 0 {
			t.Errorf("%s: again put back %v", change.name, changed)
		}
	}
}

// wantStateIPv6 waits until a VNIC has of IPv6 what it had. The kernel adds the route of an
// address a moment after the address.
func wantStateIPv6(t *testing.T, v *host.VNICSetup, what, want string) {
	t.Helper()
	var is string
	for range 100 {
		if is = stateIPv6(t, v); is == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s: it is\n%s\nwant\n%s", what, is, want)
}

// stateIPv6 writes down what a VNIC has of IPv6.
func stateIPv6(t *testing.T, v *host.VNICSetup) string {
	t.Helper()
	var lines []string
	link, err := v.Link()
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := v.NS.Netlink.AddrList(link, netlink.FAMILY_V6)
	for _, a := range addresses {
		lines = append(lines, a.String())
	}
	routes, err2 := v.NS.Netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{LinkIndex: v.Ifindex, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	for _, r := range routes {
		lines = append(lines, r.String())
	}
	neighbours, err3 := v.NS.Netlink.NeighList(v.Ifindex, netlink.FAMILY_V6)
	for _, n := range neighbours {
		if n.State == netlink.NUD_PERMANENT {
			lines = append(lines, n.String())
		}
	}
	rules, err4 := v.NS.Netlink.RuleList(netlink.FAMILY_V6)
	for _, r := range rules {
		lines = append(lines, r.String())
	}
	settings, err5 := os.ReadDir("/proc/sys/net/ipv6/conf/vnic-A")
	for _, s := range settings {
		if value, err := os.ReadFile("/proc/sys/net/ipv6/conf/vnic-A/" + s.Name()); err == nil {
			lines = append(lines, s.Name()+"="+strings.TrimSpace(string(value)))
		}
	}
	if err := errors.Join(err, err2, err3, err4); err != nil || err5 != nil && !errors.Is(err5, os.ErrNotExist) {
		t.Fatal(err, err5)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// drain takes hints until none has come for a while.
func drain(hints <-chan struct{}) {
	for {
		select {
		case <-hints:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// Row F8: a NIC whose MTU is too small for IPv6 is an error that names it, and IPv4 goes on.
// When the NIC's MTU is back, so is IPv6, and nobody else is said to have changed it.
func TestMTUTooSmallForIPv6(t *testing.T) {
	_, v, want := vnicIPv6(t)
	configured(t, &v.VNICSetup, want)
	awaitLocal(t, v)
	before := stateIPv6(t, &v.VNICSetup)
	want.MTU = 1000
	for range 2 {
		changed, err := v.Configure(want)
		if err == nil || !strings.Contains(err.Error(), "nic eth1 has an MTU of 1000, and IPv6 needs 1280") || len(changed) > 0 {
			t.Errorf("changed from outside: %v, and the error is %v", changed, err)
		}
	}
	routes, err := v.NS.Netlink.RouteGetWithOptions(netip.MustParseAddr(routerOnA).AsSlice(), nil)
	if link, _ := v.Link(); err != nil || len(routes) != 1 || routes[0].LinkIndex != v.Ifindex || link.Attrs().MTU != 1000 {
		t.Errorf("IPv4 has %v (%v), MTU %d", routes, err, link.Attrs().MTU)
	}
	want.MTU = 1500
	if changed := configured(t, &v.VNICSetup, want); len(changed) > 0 {
		t.Errorf("changed from outside: %v", changed)
	}
	wantStateIPv6(t, &v.VNICSetup, "a small MTU", before)
}

// Row S2: a segment of one family has nothing of the other.
func TestVNICOfOneFamily(t *testing.T) {
	for f := range config.Families {
		t.Run(f.String(), func(t *testing.T) {
			var addresses [config.Families]netip.Prefix
			addresses[f] = bothOnA[f]
			_, dev := apartVNIC(t, addresses)
			v := dev.(*host.TAP)
			want := host.VNICSettings{MTU: 1500, Router: wayOnA6, HostRoute: true, Neighbours: map[netip.Addr]config.MAC{wayOnA6: routerMAC}}
			want.Via[f] = wayOnA6
			if f == config.IPv4 {
				want.Router, want.Via[f] = netip.Addr{}, netip.MustParseAddr(routerOnA)
				want.Neighbours = map[netip.Addr]config.MAC{want.Via[f]: routerMAC}
			}
			configured(t, &v.VNICSetup, want)
			if changed := configured(t, &v.VNICSetup, want); len(changed) > 0 {
				t.Errorf("changed though nobody did: %v", changed)
			}
			link, err := v.Link()
			if err != nil {
				t.Fatal(err)
			}
			all, err := v.NS.Netlink.AddrList(link, netlink.FAMILY_ALL)
			if err != nil || len(all) != 1 || all[0].IPNet.String() != bothOnA[f].String() {
				t.Errorf("the addresses are %v (%v), want %s alone", all, err, bothOnA[f])
			}
			off, err := os.ReadFile("/proc/sys/net/ipv6/conf/vnic-A/disable_ipv6")
			if wanted := map[config.Family]string{config.IPv4: "1\n", config.IPv6: "0\n"}[f]; err != nil || string(off) != wanted {
				t.Errorf("disable_ipv6 is %q (%v), want %q", off, err, wanted)
			}
		})
	}
}

// Rows A3, A6: with the packet filter's check of reverse paths, as firewalld has it, a server
// on a VNIC hears any client, and answers by the gateway's alias. No client becomes a
// neighbour.
func TestIPv6AnswersByTheVNIC(t *testing.T) {
	_, v, want := vnicIPv6(t)
	configured(t, &v.VNICSetup, want)
	awaitLocal(t, v)
	addReversePathFilter(t)
	server, err := net.ListenPacket("udp6", "[fd00:50::1]:7")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	derived, outside := netip.MustParseAddr("fd00:50::8123:4567:89ab:cdef"), netip.MustParseAddr("2001:db8:9::9")
	for _, client := range []netip.Addr{derived, outside, wayOnA6} {
		from, err := hearDatagram6(t, v, server, client, 5*time.Second)
		if err != nil {
			t.Fatalf("%s is not heard: %v", client, err)
		}
		if _, err := server.WriteTo([]byte("hello"), from); err != nil {
			t.Fatal(err)
		}
		if to := sentDatagram6(t, v); to != routerMAC {
			t.Errorf("%s is answered by way of %s, want %s", client, to, routerMAC)
		}
	}
	for _, route := range []*netlink.Route{v.DefaultRoute(wayOnA6), {LinkIndex: v.Ifindex, Dst: host.Anywhere[config.IPv6]}} {
		if err := v.NS.Netlink.RouteDel(route); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := hearDatagram6(t, v, server, outside, 100*time.Millisecond); err == nil {
		t.Error("without a way back a client is heard, so that the test shows nothing")
	}
	neighbours, err := v.NS.Netlink.NeighList(v.Ifindex, netlink.FAMILY_V6)
	others := slices.DeleteFunc(neighbours, func(n netlink.Neigh) bool {
		return n.State == netlink.NUD_PERMANENT || n.State == netlink.NUD_NOARP // a group
	})
	if err != nil || len(others) > 0 {
		t.Errorf("these became neighbours: %v (%v)", others, err)
	}
}

// addReversePathFilter adds firewalld's rule IPv6_rpfilter to the namespace of the test.
func addReversePathFilter(t *testing.T) {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Name: "fire", Family: nftables.TableFamilyIPv6})
	chain := conn.AddChain(&nftables.Chain{
		Name: "rpfilter", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagMARK: true, FlagIIF: true, ResultOIF: true, FlagPRESENT: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)}, // missing
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

// udpFrame6 builds a UDP datagram of IPv6.
func udpFrame6(srcMAC, dstMAC config.MAC, src, dst netip.Addr, sport, dport uint16) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 63, NextHeader: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	_ = udp.SetNetworkLayerForChecksum(ip)
	f := packet.BuildFrame(srcMAC, dstMAC, layers.EthernetTypeIPv6, ip, udp, gopacket.Payload("hello"))
	return f.Eth()
}

// hearDatagram6 has a segment receive a UDP datagram of IPv6, and waits until the server has it.
func hearDatagram6(t *testing.T, v *host.TAP, server net.PacketConn, client netip.Addr, within time.Duration) (from net.Addr, err error) {
	t.Helper()
	eth := udpFrame6(routerMAC, vnicAMAC, client, bothOnA[config.IPv6].Addr(), 4000, 7)
	if n := v.Send([]packet.Frame{{Data: append(make([]byte, packet.VNetHeaderLen), eth...)}}); n != 1 {
		t.Fatal("the VNIC does not take the frame")
	}
	_ = server.SetReadDeadline(time.Now().Add(within))
	_, from, err = server.ReadFrom(make([]byte, 100))
	return from, err
}

// sentDatagram6 waits for a UDP datagram of IPv6 that a segment sends, and returns the MAC to
// which it goes.
func sentDatagram6(t *testing.T, v *host.TAP) (to config.MAC) {
	t.Helper()
	batch := make([]packet.Frame, iface.BatchSize)
	for range 100 { // the kernel reports its groups, too
		n, err := v.Receive(batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range batch[:n] {
			p := gopacket.NewPacket(f.Data[packet.VNetHeaderLen:], layers.LayerTypeEthernet, gopacket.Default)
			if p.Layer(layers.LayerTypeIPv6) != nil && p.Layer(layers.LayerTypeUDP) != nil {
				return f.DstMAC()
			}
		}
	}
	t.Fatal("no datagram is sent")
	return to
}
