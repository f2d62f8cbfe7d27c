package config

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func parsed(texts ...string) (addresses []netip.Prefix) {
	for _, text := range texts {
		addresses = append(addresses, netip.MustParsePrefix(text))
	}
	return addresses
}

func TestAliasPool(t *testing.T) {
	for _, test := range []struct {
		address, aliases, first, last string
		size                          int
	}{
		{"192.168.50.1/24", "", "192.168.50.2", "192.168.50.254", 253},
		{"192.168.50.9/24", "", "192.168.50.1", "192.168.50.254", 253},
		{"192.168.50.1/30", "", "192.168.50.2", "192.168.50.2", 1},
		{"192.168.50.0/31", "", "192.168.50.1", "192.168.50.1", 1},
		{"10.0.0.1/8", "", "10.0.0.2", "10.1.0.1", MaxAliases},
		{"192.168.50.1/24", "192.168.50.0-192.168.50.3", "192.168.50.2", "192.168.50.3", 2},
		// Aliases are derived; these are the fixed ones, below 2^16 (A5).
		{"fd00:50::1/64", "", "fd00:50::2", "fd00:50::ffff", 510},
		{"fd00:50::2/64", "", "fd00:50::1", "fd00:50::ffff", 510},
		{"fd00:50::ffff/64", "", "fd00:50::1", "fd00:50::fffe", 510},
		{"fd00:50:0:7::1/48", "", "fd00:50::1", "fd00:50::ffff", 511},
		// A smaller network has a pool.
		{"fd00:50::1/65", "", "fd00:50::2", "fd00:50::1:1", MaxAliases},
		{"fd00:50::1/120", "", "fd00:50::2", "fd00:50::ff", 254},
		{"fd00:50::1/126", "", "fd00:50::2", "fd00:50::3", 2},
		{"fd00:50::/127", "", "fd00:50::1", "fd00:50::1", 1},
		{"fd00:50::1/112", "fd00:50::-fd00:50::3", "fd00:50::2", "fd00:50::3", 2},
		// The range of one family leaves the other one as it is by default.
		{"fd00:50::1/120", "192.168.50.2-192.168.50.9", "fd00:50::2", "fd00:50::ff", 254},
		{"192.168.50.1/24", "fd00:50::2-fd00:50::9", "192.168.50.2", "192.168.50.254", 253},
	} {
		s := Segment{Addresses: parsed(test.address)}
		if err := s.Aliases.UnmarshalText([]byte(test.aliases)); err != nil {
			t.Fatal(err)
		}
		own := s.Addresses[0].Addr()
		pool := s.AliasPool(FamilyOf(own))
		if len(pool) != test.size || pool[0].String() != test.first || pool[len(pool)-1].String() != test.last {
			t.Errorf("%s %s: %d aliases, %s to %s; want %d, %s to %s", test.address, test.aliases, len(pool), pool[0], pool[len(pool)-1], test.size, test.first, test.last)
		}
		if slices.Contains(pool, own) || !slices.IsSortedFunc(pool, netip.Addr.Compare) {
			t.Errorf("%s: the pool has the segment's own address, or is not in order", test.address)
		}
		if other := IPv4 + IPv6 - FamilyOf(own); len(s.AliasPool(other)) > 0 {
			t.Errorf("%s: there are aliases of %s", test.address, other)
		}
	}
}

// twoFamilies is a front that may reach a (of both families), four (IPv4) and six (IPv6).
func twoFamilies() *Config {
	open := []PortRange{AnyPort}
	return &Config{
		Segments: map[string]*Segment{
			"front": {Addresses: parsed("fd00:40::1/64", "192.168.40.1/24"), Ports: open, Reach: []string{"a", "four", "six"}},
			"a":     {Addresses: parsed("192.168.50.1/24", "fd00:50::1/64"), Ports: open},
			"four":  {Addresses: parsed("192.168.60.1/24"), Ports: open},
			"six":   {Addresses: parsed("fd00:70::1/64"), Ports: open},
		},
		Bridges: map[string]*Bridge{
			"lan": {
				NIC: "eth1", Addresses: parsed("192.168.1.2/24", "2001:db8:1::2/64"),
				Gateways: []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("fe80::1")},
				LBPolicy: &Policy{PolicyFirst, []string{"front"}},
			},
		},
	}
}

// The order in which addresses stand means nothing.
func TestAddressOfFamily(t *testing.T) {
	c := twoFamilies()
	for name, want := range map[string][Families]string{
		"front": {"192.168.40.1/24", "fd00:40::1/64"}, "a": {"192.168.50.1/24", "fd00:50::1/64"},
		"four": {"192.168.60.1/24", ""}, "six": {"", "fd00:70::1/64"},
	} {
		for f := range Families {
			if got := c.Segments[name].Address(f); got.IsValid() && got.String() != want[f] || !got.IsValid() && want[f] != "" {
				t.Errorf("the %s address of %s is %s, want %s", f, name, got, want[f])
			}
		}
	}
	lan := c.Bridges["lan"]
	if lan.Gateway(IPv4).String() != "192.168.1.1" || lan.Gateway(IPv6).String() != "fe80::1" || lan.Address(IPv6).String() != "2001:db8:1::2/64" {
		t.Errorf("the bridge has %s, %s, %s", lan.Gateway(IPv4), lan.Gateway(IPv6), lan.Address(IPv6))
	}
}

// A pair of segments has an alias of each family that both have.
func TestPeerAliasesOfFamilies(t *testing.T) {
	c := twoFamilies()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for peer, want := range map[string][Families]bool{"a": {true, true}, "four": {true, false}, "six": {false, true}} {
		for f := range Families {
			here, ok := c.PeerAlias("front", peer, f)
			there, okThere := c.PeerAlias(peer, "front", f)
			if ok != want[f] || okThere != want[f] {
				t.Errorf("%s, %s: the front sees it: %t, it sees the front: %t", peer, f, ok, okThere)
			}
			if ok && (!c.Segments["front"].Subnet(f).Contains(here) || !c.Segments[peer].Subnet(f).Contains(there)) {
				t.Errorf("%s, %s: the aliases are %s and %s", peer, f, here, there)
			}
			if slices.Contains(c.SharedAliases("front", f), here) {
				t.Errorf("%s, %s: hosts outside may get the alias %s", peer, f, here)
			}
		}
	}
	if six, _ := c.PeerAlias("front", "six", IPv6); !netip.MustParsePrefix("fd00:40::ff00/120").Contains(six) {
		t.Errorf("the alias %s is not one of the last below 2^16", six)
	}
	for peer, want := range map[string]Family{"a": IPv4, "four": IPv4, "six": IPv6} {
		if alias, ok := c.AnyPeerAlias("front", peer); !ok || FamilyOf(alias) != want {
			t.Errorf("the front dials %s at %s, want an %s address", peer, alias, want)
		}
	}
	if alias, ok := c.AnyPeerAlias("four", "six"); ok {
		t.Errorf("four dials six at %s", alias)
	}
}

// Only a segment of a gateway's family has an alias for it.
func TestGatewaysOfFamilies(t *testing.T) {
	c := twoFamilies()
	c.Bridges["lan"].LBPolicy.Segments = []string{"front", "four", "six"}
	for name, want := range map[string][Families]int{"front": {1, 1}, "four": {1, 0}, "six": {0, 1}, "a": {0, 0}} {
		for f := range Families {
			if got := c.GatewaysOf(name, f); len(got) != want[f] {
				t.Errorf("%s has the %s gateways of %v, want %d", name, f, got, want[f])
			}
		}
	}
}

func TestHasIPv6(t *testing.T) {
	c := twoFamilies()
	if !c.HasIPv6() {
		t.Error("a bridge has an IPv6 address")
	}
	c.Bridges["lan"].Addresses = parsed("192.168.1.2/24")
	if !c.HasIPv6() {
		t.Error("a segment may reach another one by IPv6")
	}
	c.Segments["front"].Reach = []string{"four"}
	if c.HasIPv6() {
		t.Error("there can be no IPv6 flow")
	}
}

func TestFamilyText(t *testing.T) {
	text, err := json.Marshal(map[Family]Family{IPv4: IPv6, IPv6: IPv4})
	if err != nil || string(text) != `{"ipv4":"ipv6","ipv6":"ipv4"}` {
		t.Errorf("%s, %v", text, err)
	}
	var back map[Family]Family
	if err := json.Unmarshal(text, &back); err != nil || back[IPv4] != IPv6 || back[IPv6] != IPv4 {
		t.Errorf("%v, %v", back, err)
	}
	if err := new(Family).UnmarshalText([]byte("ipx")); err == nil || !strings.Contains(err.Error(), "want ipv4 or ipv6") {
		t.Errorf("%v", err)
	}
}
