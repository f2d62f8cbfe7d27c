package config

import (
	"net/netip"
	"slices"

	"github.com/dchest/siphash"
)

// maxPeerAliases bounds how many aliases, at the end of a segment's pool, stand for other
// segments. Half of the pool is a second bound.
const maxPeerAliases = 64

// PeersOf names the segments that a segment may reach, or that may reach it.
func (c *Config) PeersOf(segment string) (peers []string) {
	for _, name := range SortedKeys(c.Segments) {
		if slices.Contains(c.Segments[segment].Reach, name) || slices.Contains(c.Segments[name].Reach, segment) {
			peers = append(peers, name)
		}
	}
	return peers
}

// peersOfFamily names the peers of a segment with which it shares a family.
func (c *Config) peersOfFamily(segment string, f Family) []string {
	return slices.DeleteFunc(c.PeersOf(segment), func(peer string) bool {
		return !c.Segments[peer].Address(f).IsValid() || !c.Segments[segment].Address(f).IsValid()
	})
}

// PeerAlias returns the address of a family under which a segment sees another one, if either
// may reach the other and both have addresses of the family. A segment opens its connections
// to a peer at this address. The address depends only on the names: a hash of the peer's name
// gives its place at the end of the pool. If two names have the same place, the second one
// gets the next free place.
func (c *Config) PeerAlias(segment, peer string, f Family) (alias netip.Addr, ok bool) {
	alias, ok = c.PeerAliases(segment, f)[peer]
	return alias, ok
}

// AnyPeerAlias returns the address under which a segment sees another one: of IPv4 if both
// have it, else of IPv6.
func (c *Config) AnyPeerAlias(segment, peer string) (alias netip.Addr, ok bool) {
	if alias, ok = c.PeerAlias(segment, peer, IPv4); ok {
		return alias, true
	}
	return c.PeerAlias(segment, peer, IPv6)
}

// PeerAliases returns the aliases of all peers of a segment that have the family, by their
// names. It is empty if the pool has too few aliases for them.
func (c *Config) PeerAliases(segment string, f Family) map[string]netip.Addr {
	peers := c.peersOfFamily(segment, f)
	aliases := make(map[string]netip.Addr)
	pool := c.Segments[segment].AliasPool(f)
	room := min(maxPeerAliases, len(pool)/2)
	if len(peers) > room {
		return aliases // Validate refuses it
	}
	taken := make([]bool, room)
	for _, peer := range peers {
		place := int(HashName(peer) % uint64(room))
		for taken[place] {
			place = (place + 1) % room
		}
		taken[place] = true
		aliases[peer] = pool[len(pool)-1-place]
	}
	return aliases
}

// SharedAliases returns the aliases of a family for hosts outside, those of gateways first:
// the pool without the aliases that stand for other segments.
func (c *Config) SharedAliases(segment string, f Family) []netip.Addr {
	peers := c.PeerAliases(segment, f)
	return slices.DeleteFunc(c.Segments[segment].AliasPool(f), func(a netip.Addr) bool {
		for _, alias := range peers {
			if a == alias {
				return true
			}
		}
		return false
	})
}

// HashName hashes a name under a fixed key, so that its result is the same at every start. A
// name is no secret, so the key need not be one.
func HashName(name string) uint64 {
	return siphash.Hash(0x63616464792d766e, 0x6963206d61676c76, []byte(name))
}
