package link

import (
	"encoding/binary"

	"github.com/dchest/siphash"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// maxLinkLocals is how many link-local addresses are tried, if other hosts have the first
// ones (IDGEN_RETRIES of RFC 7217 §7).
const maxLinkLocals = 3

// linkLocal derives the link-local address of a bridge (A8; RFC 7217). It is the same at
// every start. conflicts is how many of the addresses before it are in use by other hosts.
func linkLocal(key [2]uint64, bridge string, mac config.MAC, conflicts uint8) packet.Addr {
	data := append([]byte("link-local "), mac[:]...)
	data = append(data, conflicts)
	data = append(data, bridge...)
	a := packet.Addr{0: 0xfe, 1: 0x80}
	id := siphash.Hash(key[0], key[1], data)
	for isReserved(id) {
		id++
	}
	binary.BigEndian.PutUint64(a[8:], id)
	return a
}

// isReserved tells whether an interface identifier is one of the registry of RFC 5453: that
// of all routers, those of IANA's Ethernet block, and those of anycast addresses.
func isReserved(id uint64) bool {
	return id == 0 || id>>24 == 0x02005efffe || id >= 0xfdffffffffffff80 && id <= 0xfdffffffffffffff
}
