package integration_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// hostile6 makes hostile frames of IPv6, with the same dice as hostile.
type hostile6 struct {
	*hostile
	templates6 [][]byte // real frames
	wrong6     [][]byte // from sources that nobody outside can have
}

func newHostile6(mac net.HardwareAddr) *hostile6 {
	h := &hostile6{hostile: newHostile(mac)}
	real := func(source string) [][]byte {
		ends := ends6{mac, paper.NICMAC, netip.MustParseAddr(source), paper.PseudoAddr6}
		return append(ends.packets6([]byte("GET / HTTP/1.0\r\n\r\n")), ends.udp6(1234, 5000, []byte("question")))
	}
	h.templates6 = append(real(paper.NeighbourAddr6(0).String()), h.neighbourMessages()...)
	for _, source := range []string{"fd00:50::1", "fd00:50::2", "fd00:60::1", "2001:db8:1::2", "::1", "::", "ff02::1", "::ffff:192.168.1.11", "::192.168.1.11", "100::1"} {
		h.wrong6 = append(h.wrong6, real(source)...)
	}
	return h
}

// neighbourMessages are messages of NDP and MLD as they should be, about the pseudo address and
// a segment's.
func (h *hostile6) neighbourMessages() (frames [][]byte) {
	us := paper.NeighbourAddr6(0)
	for _, target := range []netip.Addr{paper.PseudoAddr6, netip.MustParseAddr("fd00:50::1")} {
		frames = append(frames,
			toGroup(h.mac, us, solicitedNode(target)).solicit(target, h.mac),
			ends6{h.mac, paper.NICMAC, us, paper.PseudoAddr6}.solicit(target, h.mac))
	}
	query := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeMLDv1MulticastListenerQueryMessage, 0)}
	return append(frames, toGroup(h.mac, us, allNodes6).frame(layers.IPProtocolICMPv6, 1, query, gopacket.Payload(make([]byte, 24))))
}

// frame makes the next frame.
func (h *hostile6) frame() []byte {
	kinds := []func() []byte{
		h.noise6, h.mutated6, h.foreign6, h.tagged6, h.proper6, h.fragment6, h.extensions6, h.badChecksum6, h.wrongLength6, h.icmpError6, h.ndp6, h.long6,
	}
	return kinds[h.random.IntN(len(kinds))]()
}

// foreign6 is from a source that cannot be.
func (h *hostile6) foreign6() []byte { return h.oneOf(h.wrong6) }

// tagged6 has a VLAN tag.
func (h *hostile6) tagged6() []byte {
	f := h.oneOf(h.templates6)
	return slices.Concat(f[:12], []byte{0x81, 0x00}, h.bytes(2), f[12:])
}

// proper6 is from a client of its own, as it should be but for its checksum.
func (h *hostile6) proper6() []byte {
	f := h.oneOf(h.templates6)
	copy(f[30:38], h.bytes(8)) // the interface identifier of the source
	return f
}

// noise6 is an IPv6 header to the pseudo address, and chance.
func (h *hostile6) noise6() []byte {
	f := slices.Concat(paper.NICMAC, h.mac, []byte{0x86, 0xdd}, h.bytes(2+h.random.IntN(1400)))
	if len(f) >= 54 {
		copy(f[38:], paper.PseudoAddr6.AsSlice())
	}
	return f
}

// mutated6 is a real frame with some bytes behind the Ethernet header changed, or cut short, or
// both. It stays for the pseudo address, and claims nobody else's.
func (h *hostile6) mutated6() []byte {
	f := h.oneOf(h.templates6)
	for range 1 + h.random.IntN(4) {
		if at := 14 + h.random.IntN(len(f)-14); at < 22 || at >= 54 {
			f[at] = byte(h.random.Uint32())
		}
	}
	if h.random.IntN(2) == 0 {
		f = f[:14+h.random.IntN(len(f)-14)]
	}
	return f
}

// packet6 is an Ethernet frame with an IPv6 packet to the pseudo address.
func (h *hostile6) packet6(next byte, payload []byte) []byte {
	ip := slices.Concat(make([]byte, 40), payload)
	ip[0], ip[6], ip[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(payload)))
	copy(ip[8:], netip.MustParsePrefix("2001:db8:1::/64").Addr().AsSlice())
	ip[23] = byte(20 + h.random.IntN(8))
	copy(ip[24:], paper.PseudoAddr6.AsSlice())
	return slices.Concat(paper.NICMAC, h.mac, []byte{0x86, 0xdd}, ip)
}

// fragment6 overlaps others, ends beyond the longest packet, has no end, no beginning, or only
// a part of the transport header.
func (h *hostile6) fragment6() []byte {
	protocol, payload := h.transport(8 * (1 + h.random.IntN(40)))
	offset := uint16(h.random.IntN(1<<13)) << 3 // anywhere
	if h.random.IntN(2) == 0 {
		offset = uint16(h.random.IntN(8)) << 3 // overlapping the first, and atomic ones
	}
	if h.random.IntN(8) > 0 {
		offset |= 1 // more follow
	}
	header := []byte{nextHeader(protocol), 0, byte(offset >> 8), byte(offset), 0, 0, 0, byte(h.random.IntN(64))}
	return h.packet6(44, append(header, payload...))
}

// nextHeader is IPv6's number of a protocol of IPv4.
func nextHeader(protocol byte) byte {
	if protocol == 1 {
		return 58
	}
	return protocol
}

// extensions6 is a chain of extension headers, of any kind and length.
func (h *hostile6) extensions6() []byte {
	protocol, rest := h.transport(8 + h.random.IntN(100))
	next := nextHeader(protocol)
	for range 1 + h.random.IntN(12) {
		header := h.bytes(8 * (1 + h.random.IntN(4)))
		header[0] = next
		if h.random.IntN(4) > 0 {
			header[1] = byte(len(header)/8 - 1)
		}
		rest = append(header, rest...)
		next = []byte{0, 43, 60, 51, 135, 139, 140, 253, 59}[h.random.IntN(9)]
	}
	return h.packet6(next, rest)
}

// badChecksum6 has a wrong sum.
func (h *hostile6) badChecksum6() []byte {
	f := h.oneOf(h.templates6)
	if at := []int{56, 60, 70}[h.random.IntN(3)]; at+2 <= len(f) {
		copy(f[at:], h.bytes(2))
	}
	return f
}

// wrongLength6 has lengths that do not go with the frame's: of the packet, the TCP header or
// the UDP datagram.
func (h *hostile6) wrongLength6() []byte {
	protocol, payload := h.transport(20 + h.random.IntN(60))
	f := h.packet6(nextHeader(protocol), payload)
	copy(f[[]int{18, 58, 66}[h.random.IntN(3)]:], h.bytes(2))
	return f
}

// icmpError6 is about a packet that the server might have sent, or about nothing, and quotes as
// much of it as it likes.
func (h *hostile6) icmpError6() []byte {
	protocol, inner := h.transport(8 + h.random.IntN(40))
	quoted := h.packet6(nextHeader(protocol), inner)[14:]
	if h.random.IntN(4) > 0 {
		client := slices.Clone(quoted[8:24])
		copy(quoted[8:], quoted[24:40])
		copy(quoted[24:], client)
	}
	kind := byte(1 + h.random.IntN(5))
	message := slices.Concat([]byte{kind, byte(h.random.IntN(8)), 0, 0}, h.bytes(4), quoted[:h.random.IntN(len(quoted)+1)])
	return h.icmp6(message, paper.PseudoAddr6, 64)
}

// ndp6 is a message of NDP or MLD: of any kind, about anybody but the gateway, with any options.
// Who claims to be the gateway takes its traffic, as on any link: that is left out.
func (h *hostile6) ndp6() []byte {
	kind := []byte{130, 131, 132, 133, 134, 135, 136, 137, 143}[h.random.IntN(9)]
	message := slices.Concat([]byte{kind, 0, 0, 0}, h.bytes(4), h.bytes(16+8*h.random.IntN(6)))
	if h.random.IntN(2) == 0 {
		copy(message[8:], paper.PseudoAddr6.AsSlice())
	}
	to := []netip.Addr{paper.PseudoAddr6, allNodes6, solicitedNode(paper.PseudoAddr6)}[h.random.IntN(3)]
	return h.icmp6(message, to, []byte{255, 255, 1, 64}[h.random.IntN(4)])
}

// icmp6 is a message of ICMPv6 with a right checksum.
func (h *hostile6) icmp6(message []byte, to netip.Addr, hopLimit byte) []byte {
	f := h.packet6(58, message)
	f[21] = hopLimit
	copy(f[38:], to.AsSlice())
	if to.IsMulticast() {
		copy(f, groupMAC(to))
	}
	sum := slices.Concat(f[22:54], []byte{0, 0}, f[18:20], []byte{0, 0, 0, 58}, f[54:])
	setChecksum(sum, 42) // behind the pseudo header of 40 bytes (RFC 8200 §8.1)
	copy(f[56:], sum[42:44])
	return f
}

// long6 fills the link, jumbo frames included.
func (h *hostile6) long6() []byte {
	protocol, payload := h.transport(1000 + h.random.IntN(h.longest-1040+1))
	return h.packet6(nextHeader(protocol), payload)
}
