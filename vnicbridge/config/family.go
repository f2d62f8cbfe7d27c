package config

import "net/netip"

// Family is a version of IP. It is the index of what exists once for each.
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

// FamilyOf returns the family of an address. An IPv4 address that is mapped into IPv6 is
// IPv4.
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
