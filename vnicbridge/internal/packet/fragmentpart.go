package packet

import (
	"encoding/binary"
	"math"
)

// FragmentPart is which bytes of a datagram's payload a fragment has.
type FragmentPart struct {
	From, To int  // to is not included
	Last     bool // nothing comes behind it
}

// Part returns the fragment's part. ok is false if no datagram can have it (RFC 791): it
// is empty, ends beyond the largest datagram, or not at a multiple of 8 bytes.
func (p *Packet) Part() (s FragmentPart, ok bool) {
	bits := binary.BigEndian.Uint16(p.IP[6:])
	from := int(bits&IPFragmentOffset) * 8
	s = FragmentPart{from, from + len(p.L4), bits&IPMoreFragments == 0}
	header := len(p.IP) - len(p.L4)
	return s, len(p.L4) > 0 && header+s.To <= math.MaxUint16 && (s.Last || len(p.L4)%8 == 0)
}
