package config

import (
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
)

// InterfaceName is the VNIC's device name: the one set, or the default for a
// segment of the given name.
func (s *Segment) InterfaceName(segment string) string {
	if s.Interface != "" {
		return s.Interface
	}
	return "vnic-" + segment
}

// HardwareAddr is the VNIC's MAC: the one set, or one derived from the device's
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

func (s *Segment) Subnet() netip.Prefix { return s.Addresses[0].Masked() }

// AliasPool lists the segment's aliases, the gateway's first.
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

// LastAddr is the highest address of a prefix: for IPv4, its broadcast address.
func LastAddr(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
