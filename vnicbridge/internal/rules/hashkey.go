package rules

import (
	"encoding/binary"

	"github.com/dchest/siphash"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Key is the key of the hash (SipHash-2-4) that spreads clients over aliases and segments.
// It is secret, so that nobody outside can predict the hashes, and the same at every start
// (A5).
type Key struct{ K0, K1 uint64 }

// NewKey makes a key of the first 16 bytes of a secret.
func NewKey(secret []byte) Key {
	return Key{binary.BigEndian.Uint64(secret), binary.BigEndian.Uint64(secret[8:])}
}

// MAC returns a MAC for a use, with the locally administered bit of IEEE 802 set. It is the same
// wherever the key is.
func (k Key) MAC(use string) (mac config.MAC) {
	copy(mac[:], binary.BigEndian.AppendUint64(nil, k.hash([]byte(use))))
	mac[0] = mac[0]&^3 | 2
	return mac
}

func (k Key) hash(data []byte) uint64 { return siphash.Hash(k.K0, k.K1, data) }

func (k Key) hashTuple(t packet.Tuple) uint64 {
	var data [37]byte
	copy(data[:16], t.Src[:])
	copy(data[16:32], t.Dst[:])
	binary.BigEndian.PutUint16(data[32:], t.Sport)
	binary.BigEndian.PutUint16(data[34:], t.Dport)
	data[36] = byte(t.Proto)
	return k.hash(data[:])
}

// HashCookie returns the hash of which a SYN cookie for a client's connection consists. first is the
// client's first sequence number, and told what the cookie tells.
func (t *DecisionTable) HashCookie(client packet.Tuple, first uint32, told uint64) uint64 {
	var data [48]byte
	copy(data[:16], client.Src[:])
	copy(data[16:32], client.Dst[:])
	binary.BigEndian.PutUint16(data[32:], client.Sport)
	binary.BigEndian.PutUint16(data[34:], client.Dport)
	binary.BigEndian.PutUint32(data[36:], first)
	binary.LittleEndian.PutUint64(data[40:], told)
	return t.key.hash(data[:])
}
