package vnicbridge

import (
	"encoding/binary"
	"math"
)

// part is which bytes of a datagram's payload a fragment has.
type part struct {
	from, to int  // to is not included
	last     bool // nothing comes behind it
}

// part returns the fragment's part. ok is false if no datagram can have it (RFC 791): it
// is empty, ends beyond the largest datagram, or not at a multiple of 8 bytes.
func (p *packet) part() (s part, ok bool) {
	bits := binary.BigEndian.Uint16(p.ip[6:])
	from := int(bits&ipFragmentOffset) * 8
	s = part{from, from + len(p.l4), bits&ipMoreFragments == 0}
	header := len(p.ip) - len(p.l4)
	return s, len(p.l4) > 0 && header+s.to <= math.MaxUint16 && (s.last || len(p.l4)%8 == 0)
}
