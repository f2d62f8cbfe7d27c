package config

import (
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
)

// InterfaceName returns the VNIC's device name: the configured one, or the default for a
// segment of the given name.
func (s *Segment) InterfaceName(segment string) string {
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

// Subnet returns the segment's network. The segment must have an address.
func (s *Segment) Subnet() netip.Prefix { return s.Addresses[0].Masked() }

// AliasPool lists the segment's aliases, those of gateways first, at most [MaxAliases]. The
// segment must have an address.
func (s *Segment) AliasPool() []netip.Addr {
	own := s.Addresses[0]
	network, broadcast := own.Masked().Addr(), LastAddr(own)
	first, last := s.Aliases.First, s.Aliases.Last
	if s.Aliases.IsZero() {
		first, last = network, broadcast
	}
	var pool []netip.Addr
	for a := first; a.IsValid() && a.Compare(last) <= 0 && len(pool) < MaxAliases; a = a.Next() {
		reserved := own.Bits() < 31 && (a == network || a == broadcast)
		if !reserved && a != own.Addr() {
			pool = append(pool, a)
		}
	}
	return pool
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
