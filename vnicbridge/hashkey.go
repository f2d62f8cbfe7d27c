package vnicbridge

import (
	"crypto/sha256"
	"encoding/binary"
	"os"

	"github.com/dchest/siphash"
)

// hashKey is the key of the hashes that spread clients over aliases and segments. Nobody
// outside should foresee them, and they are the same at every start (A5).
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

// takeKey sets the key of a plane that starts.
func (p *Plane) takeKey() {
	secret, err := p.secret()
	if err != nil {
		p.log.Warn("the secret that spreads clients over aliases and segments is not kept: it is derived from the machine's id, which every user of this machine can read", "error", err)
		secret = machineSecret()
	}
	p.key = newHashKey(secret[:])
}

// machineSecret stands in for a secret that can be kept. It is the same at every start.
// Without a machine id (a bare container) it is derived from the host's name.
func machineSecret() (secret [16]byte) {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		name, _ := os.Hostname()
		id = []byte(name)
	}
	sum := sha256.Sum256(append([]byte("caddy-vnic "), id...))
	copy(secret[:], sum[:])
	return secret
}
