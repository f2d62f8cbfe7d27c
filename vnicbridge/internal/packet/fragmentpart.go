package packet

import (
	"encoding/binary"
	"math"
)

// FragmentPart says which bytes of a datagram's payload a fragment carries.
type FragmentPart struct {
	From, To int  // offsets in bytes; To is not included
	Last     bool // it ends the datagram
}

// Part returns the part of the datagram that the fragment carries. ok is false if no
// datagram can have such a part (RFC 791, RFC 8200 §4.5): it is empty, it ends beyond the
// largest datagram, or its length is no multiple of 8 bytes although it is not the last part.
func (p *Packet) Part() (s FragmentPart, ok bool) {
	if p.isIPv6() {
		return p.partIPv6()
	}
	bits := binary.BigEndian.Uint16(p.IP[6:])
	from := int(bits&IPFragmentOffset) * 8
	s = FragmentPart{from, from + len(p.L4), bits&IPMoreFragments == 0}
	header := len(p.IP) - len(p.L4)
	return s, len(p.L4) > 0 && header+s.To <= math.MaxUint16 && (s.Last || len(p.L4)%8 == 0)
}

// partIPv6 is Part for IPv6, where the part may begin with extension headers.
func (p *Packet) partIPv6() (s FragmentPart, ok bool) {
	header := p.fragmentHeader()
	bits := binary.BigEndian.Uint16(header[2:])
	from, length := int(bits&fragmentOffset), len(header)-fragmentHeaderLen
	s = FragmentPart{from, from + length, bits&moreFragments == 0}
	// A payload has at most 65,535 bytes, and those before the fragment header count.
	before := int(p.fragmentAt) - IPv6HeaderLen
	return s, length > 0 && before+s.To <= math.MaxUint16 && (s.Last || length%8 == 0)
}
