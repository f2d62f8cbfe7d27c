package vnicbridge

import (
	"errors"
	"fmt"
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
	rawpacket "github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// The addresses of the link of a host that has IPv6 of its own there.
var (
	lanOther6     = netip.MustParseAddr("2001:db8:1::9") // another host on the link
	lanNeighbour6 = netip.MustParseAddr("fe80::9")       // the same host
	lanHost6      = netip.MustParseAddr("2001:db8:1::3")
	lanPseudo6    = netip.MustParseAddr("2001:db8:1::2")
	lanStranger6  = netip.MustParseAddr("fe80::dead:beef") // a link-local address that the host does not have, as the bridge's is
	segmentA6     = bothOnA[config.IPv6].Addr()
)

// routerHost is a host that forwards IPv6, with a NIC, a second NIC, and a VNIC. The test
// plays everybody else on the link of the NIC.
type routerHost struct {
	*host.TAP
	machine
	t           *testing.T
	nic, second netlink.Link
	linkLocal   netip.Addr
	wire        *rawpacket.Conn // the link of the NIC
	wire2       *rawpacket.Conn // the link of the second NIC
}

func newRouterHost(t *testing.T) *routerHost {
	t.Helper()
	m, v, want := vnicIPv6(t)
	want.Via, want.HostRoute = [config.Families]netip.Addr{}, false // without the guard, answers leave by the NIC
	configured(t, &v.VNICSetup, want)
	awaitLocal(t, v)
	r := &routerHost{TAP: v, machine: m, t: t}
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	here, err := netns.Get()
	must(err)
	defer here.Close()
	beyond, err := netns.New()
	must(err, netns.Set(here))
	defer beyond.Close()
	h := v.NS.Netlink
	for _, name := range []string{"eth1", "eth2"} {
		must(h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(beyond)}))
	}
	must(os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	must(os.WriteFile("/proc/sys/net/ipv6/conf/eth1/accept_dad", []byte("0"), 0))
	r.nic, err = h.LinkByName("eth1")
	must(err)
	r.second, err = h.LinkByName("eth2")
	must(err)
	lo, err := h.LinkByName("lo")
	must(err, h.LinkSetUp(lo), h.LinkSetUp(r.nic), h.LinkSetUp(r.second))
	must(h.AddrAdd(r.nic, &netlink.Addr{IPNet: host.IPNet(netip.PrefixFrom(lanHost6, 64)), Flags: unix.IFA_F_NODAD}))
	for _, a := range []netip.Addr{lanOther6, lanNeighbour6} {
		must(h.NeighSet(&netlink.Neigh{LinkIndex: r.nic.Attrs().Index, IP: a.AsSlice(), HardwareAddr: hostMAC[:], State: netlink.NUD_PERMANENT}))
	}
	must(netns.Set(beyond))
	for _, name := range []string{"eth1", "eth2"} {
		link, err := netlink.LinkByName(name)
		must(err, os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0), netlink.LinkSetUp(link))
	}
	for name, wire := range map[string]**rawpacket.Conn{"eth1": &r.wire, "eth2": &r.wire2} {
		peer, err := net.InterfaceByName(name)
		must(err)
		*wire, err = rawpacket.Listen(peer, rawpacket.Raw, unix.ETH_P_ALL, nil)
		must(err)
		t.Cleanup(func() { _ = (*wire).Close() })
	}
	must(netns.Set(here))
	r.awaitLinkLocal()
	for range 25 { // the route of its address comes a moment later
		if r.heard(r.echo6(lanOther6, lanHost6)) != nil {
			return r
		}
	}
	t.Fatal("the host does not answer")
	return nil
}

func (r *routerHost) awaitLinkLocal() {
	r.t.Helper()
	for range 500 {
		addresses, err := r.NS.Netlink.AddrList(r.nic, netlink.FAMILY_V6)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, a := range addresses {
			if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				r.linkLocal, _ = netip.AddrFromSlice(a.IP)
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatal("the NIC has no link-local address")
}

// guard makes the guard, as the plane does.
func (r *routerHost) guard() {
	r.t.Helper()
	err := r.Guard(host.GuardSpec{
		NICs: []int{r.nic.Attrs().Index, r.second.Attrs().Index}, Pseudo: []netip.Addr{lanPseudo6},
		VNICs: []host.GuardedVNIC{{Index: r.Ifindex, Addresses: bothOnA}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// heard sends a frame to the NIC and tells what the host sends to the link within a while,
// but not its own reports and solicitations to groups.
func (r *routerHost) heard(frame []byte) (heard []string) {
	r.t.Helper()
	if _, err := r.wire.WriteTo(frame, &rawpacket.Addr{HardwareAddr: r.nic.Attrs().HardwareAddr}); err != nil {
		r.t.Fatal(err)
	}
	return r.listen()
}

func (r *routerHost) listen() (heard []string) {
	_ = r.wire.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := r.wire.ReadFrom(buffer)
		if err != nil {
			return heard
		}
		p := gopacket.NewPacket(buffer[:n], layers.LayerTypeEthernet, gopacket.Default)
		eth, ok := p.LinkLayer().(*layers.Ethernet)
		if !ok || eth.SrcMAC.String() != r.nic.Attrs().HardwareAddr.String() || eth.EthernetType != layers.EthernetTypeIPv6 {
			continue
		}
		icmp, isICMP := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		ip := p.NetworkLayer().(*layers.IPv6)
		switch {
		case isICMP && (icmp.TypeCode.Type() == layers.ICMPv6TypeRouterSolicitation || icmp.TypeCode.Type() == layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2):
		case ip.NextHeader == layers.IPProtocolIPv6HopByHop: // a report
		case isICMP:
			heard = append(heard, icmp.TypeCode.String())
		default:
			heard = append(heard, ip.NextHeader.String())
		}
	}
}

func (r *routerHost) mac() config.MAC { return config.MAC(r.nic.Attrs().HardwareAddr) }

// echo6 builds an echo request to the NIC.
func (r *routerHost) echo6(src, dst netip.Addr, between ...gopacket.SerializableLayer) []byte {
	ip := &layers.IPv6{Version: 6, HopLimit: 63, NextHeader: layers.IPProtocolICMPv6, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	if len(between) > 0 {
		ip.NextHeader = layers.IPProtocolIPv6Routing
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	_ = icmp.SetNetworkLayerForChecksum(ip)
	all := append([]gopacket.SerializableLayer{ip}, between...)
	f := packet.BuildFrame(hostMAC, r.mac(), layers.EthernetTypeIPv6, append(all, icmp, &layers.ICMPv6Echo{Identifier: 7}, gopacket.Payload("hello"))...)
	return f.Eth()
}

// solicit builds a Neighbor Solicitation to the group of its target.
func (r *routerHost) solicit(target netip.Addr) []byte {
	raw := target.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], raw[13:])
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: lanOther6.AsSlice(), DstIP: group[:]}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	_ = icmp.SetNetworkLayerForChecksum(ip)
	f := packet.BuildFrame(hostMAC, config.MAC{0x33, 0x33, group[12], group[13], group[14], group[15]}, layers.EthernetTypeIPv6, ip, icmp,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: target.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: hostMAC[:]}}})
	return f.Eth()
}

// routingHeader is a routing header of type 0 (RFC 5095) with a segment left.
func routingHeader(next netip.Addr) gopacket.SerializableLayer {
	raw := next.As16()
	return gopacket.Payload(append([]byte{byte(layers.IPProtocolICMPv6), 2, 0, 1, 0, 0, 0, 0}, raw[:]...))
}

// Rows A1, S4: the host's kernel leaves alone what is for segments, pseudo addresses and the
// bridge's link-local address, also if it forwards, and answers for its own.
func TestIPv6Guard(t *testing.T) {
	for _, guarded := range []bool{false, true} {
		t.Run(fmt.Sprintf("guarded %v", guarded), func(t *testing.T) {
			r := newRouterHost(t)
			if guarded {
				r.guard()
				r.guard() // replaced, as at a reload
			}
			const answer, advert = "EchoReply", "NeighborAdvertisement"
			for _, tt := range []struct {
				name               string
				frame              []byte
				unguarded, guarded string // what the host says
			}{
				{"its own address", r.echo6(lanOther6, lanHost6), answer, answer},
				{"its own link-local address", r.echo6(lanNeighbour6, r.linkLocal), answer, answer},
				{"solicitation for its own address", r.solicit(lanHost6), advert, advert},
				{"the segment's address", r.echo6(lanOther6, segmentA6), answer, ""},
				{"a routing header", r.echo6(lanOther6, lanHost6, routingHeader(segmentA6)), "ParameterProblem", ""},
				{"solicitation for the segment's address", r.solicit(segmentA6), "", ""},
				{"solicitation for the pseudo address", r.solicit(lanPseudo6), "", ""},
				{"the pseudo address", r.echo6(lanOther6, lanPseudo6), "Redirect", ""},
				{"the bridge's link-local address", r.echo6(lanNeighbour6, lanStranger6), "NeighborSolicitation", ""},
			} {
				want := tt.unguarded
				if guarded {
					want = tt.guarded
				}
				if got := strings.Join(r.heard(tt.frame), " "); !strings.Contains(got, want) || want == "" && got != "" {
					t.Errorf("%s: the host says %q, want %q", tt.name, got, want)
				}
			}
		})
	}
}

// Row S4: programs of the host reach a segment's server by lo.
func TestIPv6GuardLetsTheHostIn(t *testing.T) {
	r := newRouterHost(t)
	r.guard()
	server, err := net.Listen("tcp6", netip.AddrPortFrom(segmentA6, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second, FallbackDelay: -1}).Dial("tcp6", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// Row S3: a host that forwards is no way from the network of one bridge to that of another.
func TestIPv6NetworksStayApart(t *testing.T) {
	r := newRouterHost(t)
	beyond := netip.MustParseAddr("2001:db8:2::9")
	err := errors.Join(
		r.NS.Netlink.AddrAdd(r.second, &netlink.Addr{IPNet: host.IPNet(netip.MustParsePrefix("2001:db8:2::3/64")), Flags: unix.IFA_F_NODAD}),
		r.NS.Netlink.NeighSet(&netlink.Neigh{LinkIndex: r.second.Attrs().Index, IP: beyond.AsSlice(), HardwareAddr: hostMAC[:], State: netlink.NUD_PERMANENT}))
	if err != nil {
		t.Fatal(err)
	}
	passes := func() bool {
		t.Helper()
		r.heard(r.echo6(lanOther6, beyond))
		_ = r.wire2.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		buffer := make([]byte, 1<<16)
		for {
			n, _, err := r.wire2.ReadFrom(buffer)
			if err != nil {
				return false
			}
			p := gopacket.NewPacket(buffer[:n], layers.LayerTypeEthernet, gopacket.Default)
			if ip, ok := p.NetworkLayer().(*layers.IPv6); ok && ip.DstIP.Equal(beyond.AsSlice()) {
				return true
			}
		}
	}
	if !passes() {
		t.Error("without the guard nothing passes, so that the test shows nothing")
	}
	r.guard()
	if passes() {
		t.Error("the host forwards from one NIC to the other")
	}
}

// Row A6: no packet with a segment's address leaves by a NIC, whatever a socket is bound to.
func TestIPv6SourcesStay(t *testing.T) {
	r := newRouterHost(t)
	send := func() {
		t.Helper()
		conn, err := net.ListenPacket("udp6", netip.AddrPortFrom(segmentA6, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, err := conn.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			if err := unix.BindToDevice(int(fd), "eth1"); err != nil {
				t.Error(err)
			}
		})
		_, _ = conn.WriteTo([]byte("astray"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(lanOther6, 9))) // an error says as much
	}
	send()
	if got := r.listen(); len(got) == 0 {
		t.Error("without the guard nothing leaves, so that the test shows nothing")
	}
	r.guard()
	send()
	if got := r.listen(); len(got) > 0 {
		t.Errorf("%v left", got)
	}
}

// guardTables lists the tables of the guard in the test's namespace.
func guardTables(t *testing.T) []*nftables.Table {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(tables, func(table *nftables.Table) bool { return !strings.HasPrefix(table.Name, host.GuardPrefix) })
}

// Row S4: the table of IPv6 is made when a configuration needs it, and all tables end with
// the guard.
func TestGuardTables(t *testing.T) {
	r := newRouterHost(t)
	tables := func() (families []byte) {
		t.Helper()
		for _, table := range guardTables(t) {
			families = append(families, byte(table.Family))
		}
		return families
	}
	if err := r.Guard(host.GuardSpec{Pseudo: []netip.Addr{netip.MustParseAddr(pseudo)}}); err != nil {
		t.Fatal(err)
	}
	if got := tables(); len(got) != 2 {
		t.Errorf("without IPv6 the tables are of the families %v", got)
	}
	r.guard()
	if got := tables(); len(got) != 3 {
		t.Errorf("with IPv6 the tables are of the families %v", got)
	}
	if err := r.Guard(host.GuardSpec{Pseudo: []netip.Addr{netip.MustParseAddr(pseudo)}}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.heard(r.echo6(lanOther6, segmentA6)), " "); got != "EchoReply" {
		t.Errorf("what is no segment's address any more is kept from the host: it says %q", got)
	}
}
