package rules

import (
	"encoding/binary"
	"iter"
	"math/rand/v2"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// aliasPool holds the addresses under which a segment sees remote hosts (A5). In a large IPv6
// network each host has an alias of its own, which is derived from its address, and only the
// aliases of gateways are in Addrs.
type aliasPool struct {
	Addrs   []packet.Addr
	network netip.Prefix // of the segment
	prefix  []byte       // the first 64 bits of derived aliases; nil: none are derived
	key     Key          // of the hash that spreads clients over the pool; stable across restarts
}

// Network returns the segment's network.
func (pool *aliasPool) Network() netip.Prefix { return pool.network }

func newAliasPool(network netip.Prefix, addrs []netip.Addr, key Key) *aliasPool {
	pool := &aliasPool{network: network, key: key}
	if config.DerivesAliases(network) {
		first := packet.AddrOf(network.Addr())
		pool.prefix = first[:8]
	}
	for _, a := range addrs {
		pool.Addrs = append(pool.Addrs, packet.AddrOf(a))
	}
	return pool
}

// portAttempts is how many other ports are tried if no alias is free for a flow's own port.
// Far fewer attempts find a free port, unless an attacker holds nearly all ports.
const portAttempts = 128

// derivedAttempts is how many aliases of one host are tried, one after the other, before its
// port is changed.
const derivedAttempts = 4

// derive returns the i-th alias of a host: the network's prefix, the bits 10, and 62 bits of a
// hash of the host's address, plus i. So no alias has a reserved identifier (RFC 5453), or
// one of the fixed ones.
func (pool *aliasPool) derive(host packet.Addr, i int) (alias packet.Addr) {
	copy(alias[:], pool.prefix)
	const hashed = 1<<62 - 1
	binary.BigEndian.PutUint64(alias[8:], 1<<63|(pool.key.hash(host[:])+uint64(i))&hashed)
	return alias
}

// derivedReplies yields the tuples with which the server could answer a flow, in order of
// preference: with the host's aliases, and then with other ports of the host.
func (pool *aliasPool) derivedReplies(flow packet.Tuple, server packet.Addr) iter.Seq[packet.Tuple] {
	return func(yield func(packet.Tuple) bool) {
		t := replyTo(flow, server, packet.NoAddr)
		for i := range derivedAttempts {
			if t.Dst = pool.derive(flow.Src, i); !yield(t) {
				return
			}
		}
		t.Dst = pool.derive(flow.Src, 0)
		for range portAttempts {
			if t.Dport = randomPort(flow.Sport); !yield(t) {
				return
			}
		}
	}
}

// replies yields the tuples with which the server could answer a flow, in order of
// preference: with the preferred alias, with the other aliases, and then with other
// ports of the client. The first `reserved` aliases of the pool belong to gateways,
// and come last.
func (pool *aliasPool) replies(flow packet.Tuple, server packet.Addr, preferred, reserved int) iter.Seq[packet.Tuple] {
	return func(yield func(packet.Tuple) bool) {
		t := packet.Tuple{Src: server, Sport: flow.Dport, Dport: flow.Sport, Proto: flow.Proto}
		for i := range pool.Addrs {
			if t.Dst = pool.Addrs[pool.probe(preferred, reserved, i)]; !yield(t) {
				return
			}
		}
		for i := range portAttempts {
			t.Dst = pool.Addrs[pool.probe(preferred, reserved, i%len(pool.Addrs))]
			if t.Dport = randomPort(flow.Sport); !yield(t) {
				return
			}
		}
	}
}

// probe returns the index of the i-th alias to try. The order begins with the preferred
// alias, goes round the shared part of the pool, and ends with the gateways' aliases.
func (pool *aliasPool) probe(preferred, reserved, i int) int {
	shared := len(pool.Addrs) - reserved
	switch {
	case preferred < reserved && i == 0:
		return preferred
	case preferred < reserved:
		i-- // after the preferred alias, the shared ones follow from their start
		preferred = reserved
	}
	if i < shared {
		return reserved + (preferred-reserved+i)%shared
	}
	return i - shared
}

// preferred returns the index of the shared alias to which a client's address hashes. If all
// aliases are gateways', it returns 0.
func (pool *aliasPool) preferred(client packet.Addr, reserved int) int {
	shared := len(pool.Addrs) - reserved
	if shared <= 0 {
		return 0
	}
	return reserved + int(pool.key.hash(client[:])%uint64(shared))
}

// randomPort returns a port, or an ICMP identifier, in place of one that is taken. A
// well-known port is replaced by a well-known one, and another by another (RFC 4787
// REQ-3a).
func randomPort(port uint16) uint16 {
	if port < 1024 {
		return uint16(1 + RandomInt(1023))
	}
	return uint16(1024 + RandomInt(65536-1024))
}

// RandomInt is rand.IntN. It is a variable so that a test that compares the data paths can
// make both draw the same numbers.
var RandomInt = rand.IntN
