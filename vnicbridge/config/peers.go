package config

import (
	"net/netip"
	"slices"

	"github.com/dchest/siphash"
)

// maxPeerAliases is how many aliases at the end of a segment's pool may stand for
// other segments: at most this many, and at most half of the pool.
const maxPeerAliases = 64

// PeersOf names the segments that a segment knows: those that it may reach, and
// those that may reach it.
func (c *Config) PeersOf(segment string) (peers []string) {
	for _, name := range SortedKeys(c.Segments) {
		if slices.Contains(c.Segments[segment].Reach, name) || slices.Contains(c.Segments[name].Reach, segment) {
			peers = append(peers, name)
		}
	}
	return peers
}

// PeerAlias is the address under which a segment sees another one, if either may
// reach the other: where the one that may opens its connections to. It follows
// from the names alone and stays while they do: a hash of the peer's name gives
// its place at the end of the pool, and the next free one is taken only where two
// names meet.
func (c *Config) PeerAlias(segment, peer string) (alias netip.Addr, ok bool) {
	alias, ok = c.PeerAliases(segment)[peer]
	return alias, ok
}

func (c *Config) PeerAliases(segment string) map[string]netip.Addr {
	peers := c.PeersOf(segment)
	aliases := make(map[string]netip.Addr)
	pool := c.Segments[segment].AliasPool()
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

// SharedAliases are the aliases for hosts outside, the gateways' first: the pool
// without those that stand for other segments.
func (c *Config) SharedAliases(segment string) []netip.Addr {
	peers := c.PeerAliases(segment)
	return slices.DeleteFunc(c.Segments[segment].AliasPool(), func(a netip.Addr) bool {
		for _, alias := range peers {
			if a == alias {
				return true
			}
		}
		return false
	})
}

// HashName hashes a name under a fixed key: what follows from the hash is the same at
// every start, and the name is no secret.
func HashName(name string) uint64 {
	return siphash.Hash(0x63616464792d766e, 0x6963206d61676c76, []byte(name))
}
