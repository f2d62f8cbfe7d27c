package config

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// Row A0: at most one address of each family, at least one, and each a host's.
func TestValidateFamilies(t *testing.T) {
	address := func(segment string, addresses ...string) func(*Config) {
		return func(c *Config) { c.Segments[segment].Addresses = parsed(addresses...) }
	}
	lan := func(change func(*Bridge)) func(*Config) {
		return func(c *Config) { change(c.Bridges["lan"]) }
	}
	gateways := func(addresses ...string) func(*Config) {
		return lan(func(b *Bridge) {
			b.Gateways = nil
			for _, a := range addresses {
				b.Gateways = append(b.Gateways, netip.MustParseAddr(a))
			}
		})
	}
	linkLocal := func(a string) func(*Config) {
		return lan(func(b *Bridge) { b.LinkLocal = netip.MustParseAddr(a) })
	}
	for _, test := range []struct {
		name   string
		change func(*Config)
		says   string // empty: the configuration is valid
	}{
		{"both", func(*Config) {}, ""},
		{"none", address("a"), "address is missing"},
		{"two of IPv6", address("a", "fd00:50::1/64", "fd00:51::1/64"), "there is an IPv6 address already"},
		{"two of IPv4", address("a", "192.168.50.1/24", "fd00:50::1/64", "192.168.51.1/24"), "there is an IPv4 address already"},
		{"unspecified", address("a", "::/64"), "not a host's"},
		{"loopback", address("a", "::1/128"), "not a host's"},
		{"beside loopback", address("a", "::2/64"), "no host can have"},
		{"link-local", address("a", "fe80::1/64"), "link-local"},
		{"around link-local", address("a", "fe00::1/8"), "no host can have"},
		{"multicast", address("a", "ff02::1/64"), "not a host's"},
		{"mapped", address("a", "::ffff:192.168.50.1/120"), "write it as an IPv4 address, 192.168.50.1"},
		{"all", address("a", "2001:db8::1/0"), "prefix length"},
		{"the routers' anycast", address("a", "fd00:50::/64"), "the first host is fd00:50::1"},
		{"large", address("a", "fd00:50::1/48"), ""},
		{"small", address("a", "fd00:50::1/126"), ""},
		{"no aliases", address("a", "fd00:50::1/128"), "no other address"},
		{"overlap", address("a", "192.168.50.1/24", "fd00:70::9/56"), "overlaps"},
		{"overlap of the bridge", address("a", "192.168.50.1/24", "2001:db8:1::9/64"), "overlaps segment a's"},
		{"around the gateway", func(c *Config) {
			c.Segments["a"].Addresses = parsed("2001:db8:9::1/64")
			c.Bridges["lan"].Addresses = parsed("192.168.1.2/24", "2001:db8:1::2/128")
			c.Bridges["lan"].Gateways = []netip.Addr{netip.MustParseAddr("2001:db8:9::9")}
		}, "lies in segment a's network"},
		{"the same as another bridge's", func(c *Config) {
			c.Bridges["two"] = &Bridge{NIC: "eth2", Addresses: parsed("192.168.2.2/24", "2001:db8:1::2/64"), LBPolicy: c.Bridges["lan"].LBPolicy}
		}, "address 2001:db8:1::2 is bridge lan's already"},

		{"global gateway", gateways("2001:db8:1::1"), ""},
		{"gateway off the link", gateways("2001:db8:2::1"), "not in the network 2001:db8:1::/64"},
		{"gateway off a /128", func(c *Config) {
			c.Bridges["lan"].Addresses = parsed("2001:db8:1::2/128")
			c.Bridges["lan"].Gateways = []netip.Addr{netip.MustParseAddr("2001:db8:2::1")}
		}, ""},
		{"two gateways of IPv6", gateways("fe80::1", "2001:db8:1::1"), "there is an IPv6 gateway already"},
		{"gateway with a zone", gateways("fe80::1%eth1"), "write it without %eth1"},
		{"mapped gateway", gateways("::ffff:192.168.1.1"), "not a host's"},
		{"multicast gateway", gateways("ff02::2"), "not a host's"},
		{"gateway of a family that the bridge lacks", func(c *Config) { c.Bridges["lan"].Addresses = parsed("192.168.1.2/24") }, "gateway fe80::1: the bridge has no IPv6 address"},
		{"gateway is the pseudo address", gateways("2001:db8:1::2"), "pseudo address itself"},
		{"empty gateway", lan(func(b *Bridge) { b.Gateways = make([]netip.Addr, 1) }), "gateway: the address is empty"},

		{"link_local", linkLocal("fe80::2"), ""},
		{"link_local, outside /64", linkLocal("febf::2"), ""},
		{"global link_local", linkLocal("fd00::2"), "want an address of fe80::/10"},
		{"link_local of IPv4", linkLocal("169.254.0.2"), "want an address of fe80::/10"},
		{"mapped link_local", linkLocal("::ffff:169.254.0.2"), "want an address of fe80::/10"},
		{"link_local with a zone", linkLocal("fe80::2%eth1"), "want an address of fe80::/10"},
		{"anycast link_local", linkLocal("fe80::"), "anycast"},
		{"link_local of the gateway", linkLocal("fe80::1"), "is the gateway's address"},
		{"link_local without IPv6", func(c *Config) {
			linkLocal("fe80::2")(c)
			gateways("192.168.1.1")(c)
			c.Bridges["lan"].Addresses = parsed("192.168.1.2/24")
		}, "the bridge has no IPv6 address"},

		{"aliases of a network that derives them", func(c *Config) {
			c.Segments["a"].Aliases = AddrRange{netip.MustParseAddr("fd00:50::2"), netip.MustParseAddr("fd00:50::9")}
		}, "follow from the clients' addresses"},
		{"aliases of a family that the segment lacks", func(c *Config) {
			c.Segments["four"].Aliases = AddrRange{netip.MustParseAddr("fd00:50::2"), netip.MustParseAddr("fd00:50::9")}
		}, "the segment has no IPv6 address"},
		{"aliases of IPv6", func(c *Config) {
			c.Segments["a"].Addresses = parsed("192.168.50.1/24", "fd00:50::1/120")
			c.Segments["a"].Aliases = AddrRange{netip.MustParseAddr("fd00:50::2"), netip.MustParseAddr("fd00:50::9")}
		}, ""},
		{"aliases elsewhere", func(c *Config) {
			c.Segments["a"].Addresses = parsed("fd00:50::1/120")
			c.Segments["a"].Aliases = AddrRange{netip.MustParseAddr("fd00:50::2"), netip.MustParseAddr("fd00:50::1:9")}
		}, "fd00:50::1:9 is not in the segment's network fd00:50::/120"},
		{"aliases for peers and none for gateways", func(c *Config) {
			c.Segments["a"].Aliases = AddrRange{netip.MustParseAddr("192.168.50.2"), netip.MustParseAddr("192.168.50.3")}
			c.Bridges["lan"].LBPolicy.Segments = []string{"a"}
			c.Bridges["two"] = &Bridge{
				NIC: "eth2", Addresses: parsed("192.168.2.2/24"), Gateways: []netip.Addr{netip.MustParseAddr("192.168.2.1")},
				LBPolicy: c.Bridges["lan"].LBPolicy,
			}
		}, "1 stand for other segments, and each of its bridges' 2 gateways needs one"},

		{"policy without a common family", func(c *Config) {
			c.Bridges["lan"].Addresses, c.Bridges["lan"].Gateways = parsed("192.168.1.2/24"), nil
			c.Bridges["lan"].LBPolicy.Segments = []string{"a", "six"}
		}, "segment six has no IPv4 address, and the bridge no IPv6 address"},
		{"steer without a common family", func(c *Config) {
			c.Bridges["lan"].Addresses, c.Bridges["lan"].Gateways = parsed("2001:db8:1::2/64"), nil
			c.Bridges["lan"].Steer = []Rule{{Segment: "four", Protocols: []Protocol{TCP}}}
		}, "segment four has no IPv6 address, and the bridge no IPv4 address"},
		{"policy with one common family", lan(func(b *Bridge) { b.LBPolicy.Segments = []string{"a", "four", "six"} }), ""},
		{"reach without a common family", func(c *Config) { c.Segments["four"].Reach = []string{"six"} }, "segment six has no IPv4 address, and this one no IPv6 address"},
		{"egress any by one family", func(c *Config) {
			gateways("fe80::1")(c)
			c.Segments["front"].Egress, c.Segments["front"].DefaultRoute = EgressAny, true
		}, ""},
		{"egress any by the other family", func(c *Config) {
			gateways("fe80::1")(c)
			c.Segments["four"].Egress = EgressAny
			c.Bridges["lan"].LBPolicy.Segments = []string{"front", "four"}
		}, "bridge lan has no IPv4 gateway"},
		{"mapped client", lan(func(b *Bridge) { b.Steer = []Rule{{Segment: "front", Clients: parsed("::ffff:10.0.0.0/104")}} }), "write it as an IPv4 address"},
		{"clients of both families", lan(func(b *Bridge) { b.Steer = []Rule{{Segment: "front", Clients: parsed("10.0.0.0/8", "fe80::/10")}} }), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := twoFamilies()
			test.change(c)
			err := c.Validate()
			switch located := (*Error)(nil); {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "" && (!errors.As(err, &located) || !strings.Contains(err.Error(), test.says)):
				t.Errorf("the error is %v, want one that says %q", err, test.says)
			}
		})
	}
}
