package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Family is a version of IP. It is the index of what exists once for each version. Its text
// form is "ipv4" or "ipv6".
type Family uint8

// The families.
const (
	IPv4 Family = iota
	IPv6
	Families // how many there are
)

// String returns the name of the version.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// MarshalText implements encoding.TextMarshaler.
func (f Family) MarshalText() ([]byte, error) { return []byte(strings.ToLower(f.String())), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Family) UnmarshalText(text []byte) error {
	switch string(text) {
	case "ipv4":
		*f = IPv4
	case "ipv6":
		*f = IPv6
	default:
		return fmt.Errorf("unknown family %q: want ipv4 or ipv6", text)
	}
	return nil
}

// FamilyOf returns the family of an address. An IPv4 address that is mapped into IPv6 has the
// family IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// ofFamily returns the first address of a family with its network, or the zero value.
func ofFamily(addresses []netip.Prefix, f Family) netip.Prefix {
	for _, p := range addresses {
		if FamilyOf(p.Addr()) == f {
			return p
		}
	}
	return netip.Prefix{}
}

// shareFamily tells whether two parts of a configuration have addresses of the same family.
func shareFamily(a, b []netip.Prefix) bool {
	for f := range Families {
		if ofFamily(a, f).IsValid() && ofFamily(b, f).IsValid() {
			return true
		}
	}
	return false
}

// familiesOf names the families of addresses, as in "IPv4 or IPv6".
func familiesOf(addresses []netip.Prefix) string {
	var names []string
	for f := range Families {
		if ofFamily(addresses, f).IsValid() {
			names = append(names, f.String())
		}
	}
	return strings.Join(names, " or ")
}

// anyOfFamily tells whether one of the segments has an address of a family.
func (c *Config) anyOfFamily(segments []string, f Family) bool {
	return slices.ContainsFunc(segments, func(name string) bool { return c.Segments[name].Address(f).IsValid() })
}
