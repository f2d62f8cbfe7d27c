package vnicbridge

import (
	"encoding/binary"

	"github.com/dchest/siphash"
)

// hashKey is the key of the hashes that spread clients over aliases and segments. Nobody
// outside may foresee the hashes. They are the same at every start (A5).
type hashKey struct{ k0, k1 uint64 }

func newHashKey(secret []byte) hashKey {
	return hashKey{binary.BigEndian.Uint64(secret), binary.BigEndian.Uint64(secret[8:])}
}

func (k hashKey) hash(data []byte) uint64 { return siphash.Hash(k.k0, k.k1, data) }

func (k hashKey) hashTuple(t tuple) uint64 {
	var data [37]byte
	copy(data[:16], t.src[:])
	copy(data[16:32], t.dst[:])
	binary.BigEndian.PutUint16(data[32:], t.sport)
	binary.BigEndian.PutUint16(data[34:], t.dport)
	data[36] = byte(t.proto)
	return k.hash(data[:])
}
