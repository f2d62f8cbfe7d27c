package paper

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// TestConfigsOfFamily checks that the lab's Caddyfiles have addresses of one family only when
// they are rewritten for it.
func TestConfigsOfFamily(t *testing.T) {
	for _, f := range []*family{familyIPv4, familyIPv6} {
		for name, config := range map[string]string{"Caddyfile": caddyfile, "Caddyfile.fig19": caddyfileFig19} {
			addresses := 0
			for line := range strings.Lines(f.addresses.Replace(config)) {
				words := strings.Fields(line)
				if len(words) != 2 || words[0] != "address" && words[0] != "gateway" {
					continue
				}
				address, _, _ := strings.Cut(words[1], "/")
				if netip.MustParseAddr(address).Is6() != f.beyond {
					t.Errorf("%s%s has %q", name, f.suffix, words)
				}
				addresses++
			}
			if addresses < 4 {
				t.Errorf("%s%s has %d addresses", name, f.suffix, addresses)
			}
		}
	}
}

// echoIPv6 is paperEcho over IPv6, for PC1.
func echoIPv6(t *testing.T, alias netip.Addr, edit func(i int, ip *layers.IPv6, payload []byte)) []netlab.Frame {
	t.Helper()
	var frames []netlab.Frame
	for i, figure := range familyIPv6.frameFigures(PC1Addr6, alias) {
		kind := uint8(layers.ICMPv6TypeEchoReply)
		if figure.request {
			kind = layers.ICMPv6TypeEchoRequest
		}
		ip := &layers.IPv6{
			Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: figure.ttl,
			SrcIP: figure.src.AsSlice(), DstIP: figure.dst.AsSlice(),
		}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
		payload := make([]byte, 56)
		if edit != nil {
			edit(i, ip, payload)
		}
		if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buffer := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: figure.ethSrc, DstMAC: figure.ethDst, EthernetType: layers.EthernetTypeIPv6},
			ip, icmp, &layers.ICMPv6Echo{Identifier: 0x285f, SeqNumber: 95}, gopacket.Payload(payload))
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, netlab.Frame{Interface: figure.index, Data: buffer.Bytes()})
	}
	return frames
}

func TestFramesSectionIPv6(t *testing.T) {
	alias := netip.MustParseAddr("fd00:50::8123:4567:89ab:cdef")
	for name, test := range map[string]struct {
		spoil func(i int, ip *layers.IPv6, payload []byte)
		want  []string
	}{
		"nothing spoiled": {nil, nil},
		"hop limit": {func(i int, ip *layers.IPv6, _ []byte) {
			if i == 1 {
				ip.HopLimit--
			}
		}, []string{"  the rest"}},
		"source kept": {func(i int, ip *layers.IPv6, _ []byte) {
			if i == 3 {
				ip.SrcIP = familyIPv6.a.vnic.AsSlice()
			}
		}, []string{"reply on the NIC"}},
		"payload": {func(i int, _ *layers.IPv6, payload []byte) { payload[9] = byte(i / 3) }, []string{"  the rest"}},
	} {
		four, err := findEcho(echoIPv6(t, alias, test.spoil))
		if err != nil {
			t.Fatal(err)
		}
		var differing []string
		for _, c := range familyIPv6.framesSection(four, PC1Addr6, alias).differing() {
			differing = append(differing, c.What)
		}
		if !slices.Equal(differing, test.want) {
			t.Errorf("%s: %q differ, want %q", name, differing, test.want)
		}
	}
}

// TestIsPacket tells what a network carries from what its links need.
func TestIsPacket(t *testing.T) {
	serialize := func(content ...gopacket.SerializableLayer) netlab.Frame {
		buffer := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true}, content...); err != nil {
			t.Fatal(err)
		}
		return netlab.Frame{Data: buffer.Bytes()}
	}
	ipv6 := func(kind uint8) netlab.Frame {
		return serialize(
			&layers.Ethernet{SrcMAC: NICMAC, DstMAC: RouterMAC, EthernetType: layers.EthernetTypeIPv6},
			&layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, SrcIP: PseudoAddr6.AsSlice(), DstIP: PC1Addr6.AsSlice()},
			&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}, gopacket.Payload(make([]byte, 24)))
	}
	arp := serialize(
		&layers.Ethernet{SrcMAC: NICMAC, DstMAC: RouterMAC, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			SourceHwAddress: NICMAC, SourceProtAddress: PseudoAddr.AsSlice(), DstHwAddress: RouterMAC, DstProtAddress: RouterAddr.AsSlice()})
	for name, test := range map[string]struct {
		frame netlab.Frame
		want  bool
	}{
		"echo over IPv4": {paperEcho(t, RouterAddr, segmentA.gateway, nil)[0], true},
		"echo over IPv6": {ipv6(layers.ICMPv6TypeEchoRequest), true},
		"IPv6 error":     {ipv6(layers.ICMPv6TypeDestinationUnreachable), true},
		"NDP":            {ipv6(layers.ICMPv6TypeNeighborSolicitation), false},
		"MLD":            {ipv6(143), false},
		"ARP":            {arp, false},
	} {
		if got := isPacket(test.frame); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
