package flowlist

import (
	"fmt"
	"net/netip"
)

// Site is what counts as one client: an IPv4 address, or the /64 network of an IPv6 address,
// because one customer has all addresses of it. As text it is the address, or the network
// with its length.
type Site struct{ network netip.Prefix }

// siteBits is the length of an IPv6 customer's network.
const siteBits = 64

// SiteOf returns the site of an address.
func SiteOf(a netip.Addr) Site {
	bits := a.BitLen()
	if a.Is6() {
		bits = siteBits
	}
	return Site{netip.PrefixFrom(a, bits).Masked()}
}

// Network returns the addresses of the site.
func (s Site) Network() netip.Prefix { return s.network }

func (s Site) compare(other Site) int { return s.network.Addr().Compare(other.network.Addr()) }

// String returns the site as text.
func (s Site) String() string {
	if s.network.IsSingleIP() {
		return s.network.Addr().String()
	}
	return s.network.String()
}

// MarshalText writes the site as text.
func (s Site) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what [Site.MarshalText] writes.
func (s *Site) UnmarshalText(text []byte) error {
	if network, err := netip.ParsePrefix(string(text)); err == nil {
		*s = Site{network.Masked()}
		return nil
	}
	a, err := netip.ParseAddr(string(text))
	if err != nil {
		return fmt.Errorf("client %q: want an address or a network", text)
	}
	*s = SiteOf(a)
	return nil
}
