package vnicbridge

import (
	"iter"
	"math/rand/v2"
	"net/netip"
)

// aliasPool is the addresses under which a segment sees remote hosts (A5).
type aliasPool struct {
	addrs []addr
	key   hashKey // of the hash that spreads clients; stable across restarts
}

func newAliasPool(addrs []netip.Addr, key hashKey) *aliasPool {
	pool := &aliasPool{key: key}
	for _, a := range addrs {
		pool.addrs = append(pool.addrs, addrOf(a))
	}
	return pool
}

// portAttempts is how many other ports are tried when no alias is free for a
// flow's own: with a pool of any size a free one is found long before, unless an
// attacker holds nearly all.
const portAttempts = 128

// replies yields, in order of preference, the tuples under which a segment could
// answer a flow from a client to the given server address: the preferred alias,
// the others, and in the end other client ports. reserved is how many aliases at
// the head of the pool belong to gateways; they come last.
func (pool *aliasPool) replies(flow tuple, server addr, preferred, reserved int) iter.Seq[tuple] {
	return func(yield func(tuple) bool) {
		t := tuple{src: server, sport: flow.dport, dport: flow.sport, proto: flow.proto}
		for i := range pool.addrs {
			if t.dst = pool.addrs[pool.probe(preferred, reserved, i)]; !yield(t) {
				return
			}
		}
		for i := range portAttempts {
			t.dst = pool.addrs[pool.probe(preferred, reserved, i%len(pool.addrs))]
			if t.dport = randomPort(flow.sport); !yield(t) {
				return
			}
		}
	}
}

// probe is the index of the i-th alias to try: from the preferred one round the
// shared part of the pool, then the gateways'.
func (pool *aliasPool) probe(preferred, reserved, i int) int {
	shared := len(pool.addrs) - reserved
	switch {
	case preferred < reserved && i == 0:
		return preferred
	case preferred < reserved:
		i-- // the preferred one is done; the shared ones from their start
		preferred = reserved
	}
	if i < shared {
		return reserved + (preferred-reserved+i)%shared
	}
	return i - shared
}

// preferred is the index of the alias that a client's address hashes to among
// those that no gateway has.
func (pool *aliasPool) preferred(client addr, reserved int) int {
	shared := len(pool.addrs) - reserved
	if shared <= 0 {
		return 0
	}
	return reserved + int(pool.key.hash(client[:])%uint64(shared))
}

// randomPort returns a port, or ICMP identifier, to use in the place of one that
// is taken. It keeps to the well-known half or the other, as RFC 4787 REQ-3a
// asks of a NAT.
func randomPort(port uint16) uint16 {
	if port < 1024 {
		return uint16(1 + randomInt(1023))
	}
	return uint16(1024 + randomInt(65536-1024))
}

// randomInt is rand.IntN. A test that compares data paths makes both draw the same.
var randomInt = rand.IntN
