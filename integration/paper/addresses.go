package paper

import (
	"net"
	"net/netip"
)

// The addresses of the paper's network. The MAC addresses are those of its
// figures 12 to 15.
var (
	PC1Addr       = netip.MustParseAddr("192.168.10.2")
	RouterLANAddr = netip.MustParseAddr("192.168.10.1")
	RouterAddr    = netip.MustParseAddr("192.168.1.1")
	PseudoAddr    = netip.MustParseAddr("192.168.1.2")

	RouterMAC = net.HardwareAddr{0x00, 0x24, 0xa5, 0x57, 0xe6, 0xe8}
	NICMAC    = net.HardwareAddr{0xb0, 0xc7, 0x45, 0xf5, 0xde, 0x2d}
)

// The IPv6 addresses of the same places, which the paper does not have. The router is also
// RouterLinkLocal on its link to the server.
var (
	PC1Addr6        = netip.MustParseAddr("2001:db8:10::2")
	RouterLANAddr6  = netip.MustParseAddr("2001:db8:10::1")
	RouterAddr6     = netip.MustParseAddr("2001:db8:1::1")
	RouterLinkLocal = netip.MustParseAddr("fe80::1")
	PseudoAddr6     = netip.MustParseAddr("2001:db8:1::2")
)

// The addresses of the second network in IPv6. Router2, too, is RouterLinkLocal on its link
// to the server.
var (
	PC2Addr6        = netip.MustParseAddr("2001:db8:20::2")
	Router2LANAddr6 = netip.MustParseAddr("2001:db8:20::1")
	Router2Addr6    = netip.MustParseAddr("2001:db8:2::1")
	PseudoAddr26    = netip.MustParseAddr("2001:db8:2::2")
)

// The addresses of the second network, which Fig-19 has without numbers.
var (
	PC2Addr        = netip.MustParseAddr("192.168.20.2")
	Router2LANAddr = netip.MustParseAddr("192.168.20.1")
	Router2Addr    = netip.MustParseAddr("192.168.2.1")
	PseudoAddr2    = netip.MustParseAddr("192.168.2.2")

	Router2MAC = net.HardwareAddr{0x00, 0x24, 0xa5, 0x57, 0xe6, 0xe9}
	NIC2MAC    = net.HardwareAddr{0xb0, 0xc7, 0x45, 0xf5, 0xde, 0x2e}
)

// The devices of the paper's network: the one of PC1, the router's two sides,
// and the server's NIC. NIC2Device is its other one, of Fig-19.
const (
	PC1Device       = "eth0"
	RouterLANDevice = "lan"
	RouterWANDevice = "wan"
	NICDevice       = "nic0"
	NIC2Device      = "nic1"
)
