package packet

import (
	"encoding/binary"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Rewrite changes the packet's tuple to another one of the same protocol: the addresses,
// and the ports or the ICMP identifier. It corrects the checksums that cover them. Nothing
// else in the packet changes (F2).
func (p *Packet) Rewrite(to Tuple, checksumUnfinished bool) {
	diff := p.RewriteAddresses(to)
	if p.Later {
		return
	}
	portDiff := p.rewritePorts(to)
	switch p.Proto {
	case config.TCP:
		p.mendTransport(p.L4[16:18], diff, portDiff, checksumUnfinished, applyDiff)
	case config.UDP:
		p.mendTransport(p.L4[6:8], diff, portDiff, checksumUnfinished, applyDiffUDP)
	case config.ICMP:
		if p.isIPv6() {
			p.mendTransport(p.L4[2:4], diff, portDiff, checksumUnfinished, applyDiff)
			break
		}
		// The checksum covers the ICMP message only, no pseudo header (RFC 792).
		applyDiff(p.L4[2:4], portDiff)
	}
	p.Tuple = to
}

// RewriteAddresses changes the addresses in the IP header. It corrects the checksum of the
// header, which IPv6 does not have, and that of an ICMPv6 error, which covers the addresses
// (RFC 4443 §2.3). It returns the difference by which another checksum over the pseudo
// header must be corrected.
func (p *Packet) RewriteAddresses(to Tuple) (diff uint32) {
	if p.isIPv6() {
		return p.rewriteIPv6Addresses(to)
	}
	diff = checksumDiff(p.Src.V4(), to.Src.V4()) + checksumDiff(p.Dst.V4(), to.Dst.V4())
	copy(p.IP[12:16], to.Src.V4())
	copy(p.IP[16:20], to.Dst.V4())
	applyDiff(p.IP[10:12], diff)
	return diff
}

func (p *Packet) rewriteIPv6Addresses(to Tuple) (diff uint32) {
	diff = checksumDiff(p.Src[:], to.Src[:]) + checksumDiff(p.Dst[:], to.Dst[:])
	copy(p.IP[8:24], to.Src[:])
	copy(p.IP[24:40], to.Dst[:])
	if p.ICMPError {
		applyDiff(p.L4[2:4], diff)
	}
	return diff
}

// RewriteID changes the identification of the datagram of which the packet is a fragment: 16
// bits of the IP header, or the 32 bits of the fragment header of IPv6, which no checksum
// covers.
func (p *Packet) RewriteID(id uint32) {
	if p.isIPv6() {
		binary.BigEndian.PutUint32(p.fragmentHeader()[4:], id)
		return
	}
	diff := putWord(p.IP[4:6], uint16(p.ID()), uint16(id))
	applyDiff(p.IP[10:12], diff)
}

// ID returns the identification of the datagram of which the packet is a fragment.
func (p *Packet) ID() uint32 {
	if p.isIPv6() {
		return binary.BigEndian.Uint32(p.fragmentHeader()[4:])
	}
	return uint32(binary.BigEndian.Uint16(p.IP[4:]))
}

// mendTransport corrects the checksum of TCP, UDP or ICMPv6. An unfinished one holds the sum
// over the pseudo header only, so the ports do not change it.
func (p *Packet) mendTransport(field []byte, addrDiff, portDiff uint32, unfinished bool, apply func([]byte, uint32)) {
	if unfinished {
		applyDiffPartial(field, addrDiff)
	} else {
		apply(field, addrDiff+portDiff)
	}
}

// rewritePorts changes the ports, or the identifier of an echo, and returns the difference
// by which the checksum must be corrected.
func (p *Packet) rewritePorts(to Tuple) (diff uint32) {
	if p.Proto == config.ICMP {
		return putWord(p.L4[4:6], p.Sport+p.Dport, to.Sport+to.Dport) // one of each pair is 0
	}
	return putWord(p.L4[0:2], p.Sport, to.Sport) + putWord(p.L4[2:4], p.Dport, to.Dport)
}

func putWord(field []byte, from, to uint16) uint32 {
	if from == to {
		return 0 // adding ~m + m would turn a sum of +0 into -0
	}
	binary.BigEndian.PutUint16(field, to)
	return uint32(^from) + uint32(to)
}
