package config

import (
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
)

// InterfaceName returns the name of the segment's device: the one behind which its server is,
// or else the VNIC's, which is the configured one, or the default for a segment of the given
// name.
func (s *Segment) InterfaceName(segment string) string {
	if s.Device != "" {
		return s.Device
	}
	if s.Interface != "" {
		return s.Interface
	}
	return "vnic-" + segment
}

// HardwareAddr returns the VNIC's MAC: the configured one, or one derived from the device's
// name, with the locally administered bit of IEEE 802 set.
func (s *Segment) HardwareAddr(iface string) MAC {
	if !s.MAC.IsZero() {
		return s.MAC
	}
	sum := sha256.Sum256([]byte("caddy-vnic " + iface))
	mac := MAC(sum[:6])
	mac[0] = mac[0]&^3 | 2
	return mac
}

// Address returns the segment's address of a family with its network. It is the zero value
// if the segment has none.
func (s *Segment) Address(f Family) netip.Prefix { return ofFamily(s.Addresses, f) }

// OwnAddrs returns the segment's own addresses, the one of IPv4 first.
func (s *Segment) OwnAddrs() (addrs []netip.Addr) {
	for f := range Families {
		if own := s.Address(f); own.IsValid() {
			addrs = append(addrs, own.Addr())
		}
	}
	return addrs
}

// Subnet returns the segment's network of a family. It is the zero value if the segment has
// none.
func (s *Segment) Subnet(f Family) netip.Prefix { return s.Address(f).Masked() }

// Address returns the pseudo address of a family with its network. It is the zero value if
// the bridge has none.
func (b *Bridge) Address(f Family) netip.Prefix { return ofFamily(b.Addresses, f) }

// Gateway returns the bridge's gateway of a family. It is the zero value if the bridge has
// none.
func (b *Bridge) Gateway(f Family) netip.Addr {
	for _, gateway := range b.Gateways {
		if FamilyOf(gateway) == f {
			return gateway
		}
	}
	return netip.Addr{}
}

// DerivesAliases tells whether the aliases of a network are derived from the addresses of the
// hosts that they stand for. Smaller networks have a pool of aliases instead.
func DerivesAliases(network netip.Prefix) bool {
	return network.IsValid() && network.Addr().Is6() && network.Bits() <= 64
}

// AliasPool lists the segment's aliases of a family, those of gateways first, at most
// [MaxAliases]. In a network with derived aliases, these are the fixed ones: those that stand
// for gateways and for other segments. A segment without an address of the family has none.
func (s *Segment) AliasPool(f Family) []netip.Addr {
	own := s.Address(f)
	switch {
	case !own.IsValid():
		return nil
	case DerivesAliases(own):
		return fixedAliases(own)
	case s.ownsAliases(f):
		return aliasesIn(own, s.Aliases.First, s.Aliases.Last)
	default:
		return aliasesIn(own, own.Masked().Addr(), LastAddr(own))
	}
}

// ownsAliases tells whether the configuration names the aliases of a family.
func (s *Segment) ownsAliases(f Family) bool {
	return !s.Aliases.IsZero() && FamilyOf(s.Aliases.First) == f
}

// fixedAliases returns the aliases of a network with derived ones that do not depend on a
// host's address: the lowest 256 identifiers, for gateways, and the highest 256 of those
// below 2^16, for other segments. Derived aliases are beyond (A5).
func fixedAliases(own netip.Prefix) []netip.Addr {
	network := own.Masked().Addr().As16()
	at := func(high, low byte) netip.Addr {
		a := network
		a[14], a[15] = high, low
		return netip.AddrFrom16(a)
	}
	return append(aliasesIn(own, at(0, 0), at(0, 0xff)), aliasesIn(own, at(0xff, 0), at(0xff, 0xff))...)
}

// aliasesIn lists the addresses of a range that can be aliases of a segment with an address
// and network.
func aliasesIn(own netip.Prefix, first, last netip.Addr) (pool []netip.Addr) {
	for a := first; a.IsValid() && a.Compare(last) <= 0 && len(pool) < MaxAliases; a = a.Next() {
		if a != own.Addr() && !isNetworks(own, a) {
			pool = append(pool, a)
		}
	}
	return pool
}

// isNetworks tells whether an address stands for the network p as a whole. In IPv4 these are
// the network's and the broadcast address, and in IPv6 the routers' anycast address (RFC 4291
// §2.6.1). A network of one or two addresses has none (RFC 3021, RFC 6164).
func isNetworks(p netip.Prefix, a netip.Addr) bool {
	if p.Bits() >= a.BitLen()-1 {
		return false
	}
	return a == p.Masked().Addr() || a.Is4() && a == LastAddr(p)
}

// LastAddr returns the highest address of a prefix. For IPv4 it is the broadcast address.
func LastAddr(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

// SortedKeys returns the keys of a map in their order, so that results and errors do not
// depend on the order of iteration.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
