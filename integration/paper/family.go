package paper

import (
	"net/netip"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// family is what the experiments take from one family of addresses.
type family struct {
	beyond          bool   // the paper does not have this family
	suffix          string // of the captures' names
	pc1             netip.Addr
	pseudo, pseudo2 netip.Addr
	a, b            segmentFigures
	routes          []string          // of Fig-4, as netlab.Route prints them
	routesBy        string            // the command that lists them so
	echoBytes       string            // the length of an echo of 64 bytes in its frame
	hops            string            // the field that routers count down
	neighbours      string            // the table of MAC addresses
	addresses       *strings.Replacer // of IPv4 in the lab's Caddyfiles, with these
}

var familyIPv4 = &family{
	pc1: PC1Addr, pseudo: PseudoAddr, pseudo2: PseudoAddr2,
	a: segmentA, b: segmentB,
	routes: []string{
		"192.168.50.0/24 192.168.50.1 UG 0 vnic-A",
		"192.168.50.0/24 0.0.0.0      U  0 vnic-A",
		"192.168.60.0/24 192.168.60.1 UG 0 vnic-B",
		"192.168.60.0/24 0.0.0.0      U  0 vnic-B",
	},
	routesBy: "route -n", echoBytes: "98", hops: "TTL", neighbours: "ARP table",
	addresses: strings.NewReplacer(),
}

// familyIPv6 is for the experiments once more. Both routers are fe80::1 on their links to the
// server, and never translate addresses. Linux refuses a gateway that is an address of its
// own, so the routes lead by way of the gateway's alias.
var familyIPv6 = &family{
	beyond: true, suffix: "-ipv6",
	pc1: PC1Addr6, pseudo: PseudoAddr6, pseudo2: PseudoAddr26,
	a: segmentA.at(netip.MustParsePrefix("fd00:50::/64")), b: segmentB.at(netip.MustParsePrefix("fd00:60::/64")),
	routes: []string{
		"fd00:50::2/128  ::           UH 1 vnic-A",
		"fd00:50::/64    fd00:50::2   UG 1 vnic-A",
		"fd00:60::2/128  ::           UH 1 vnic-B",
		"fd00:60::/64    fd00:60::2   UG 1 vnic-B",
	},
	routesBy: "ip -6 route", echoBytes: "118", hops: "hop limit", neighbours: "neighbour table",
	addresses: strings.NewReplacer(
		"192.168.50.1/24", "fd00:50::1/64", "192.168.60.1/24", "fd00:60::1/64",
		"192.168.1.2/24", "2001:db8:1::2/64", "gateway 192.168.1.1", "gateway fe80::1",
		"192.168.2.2/24", "2001:db8:2::2/64", "gateway 192.168.2.1", "gateway fe80::1"),
}

// notGiven stands for a figure that the paper does not have.
const notGiven = "(not given)"

// at is the segment in another network, of which the paper has no figures.
func (s segmentFigures) at(network netip.Prefix) segmentFigures {
	s.network, s.vnic = network, network.Addr().Next()
	s.gateway = s.vnic.Next()
	s.packets, s.rtt, s.avg = notGiven, notGiven, ""
	return s
}

// urlOf is the address of the web site at an IP address.
func urlOf(a netip.Addr) string { return "http://" + netlab.URLHost(a) + "/" }
