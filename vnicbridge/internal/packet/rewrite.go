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
		// The checksum covers the ICMP message only, no pseudo header (RFC 792).
		applyDiff(p.L4[2:4], portDiff)
	}
	p.Tuple = to
}

// RewriteAddresses changes the addresses in the IP header and corrects its checksum. It
// returns the difference by which a checksum over the pseudo header must be corrected.
func (p *Packet) RewriteAddresses(to Tuple) (diff uint32) {
	diff = checksumDiff(p.Src.V4(), to.Src.V4()) + checksumDiff(p.Dst.V4(), to.Dst.V4())
	copy(p.IP[12:16], to.Src.V4())
	copy(p.IP[16:20], to.Dst.V4())
	applyDiff(p.IP[10:12], diff)
	return diff
}

// RewriteID changes the IP identification.
func (p *Packet) RewriteID(id uint16) {
	diff := putWord(p.IP[4:6], p.ID(), id)
	applyDiff(p.IP[10:12], diff)
}

// ID returns the IP identification.
func (p *Packet) ID() uint16 { return binary.BigEndian.Uint16(p.IP[4:]) }

// mendTransport corrects a TCP or UDP checksum. An unfinished one holds the sum over the
// pseudo header only, so the ports do not change it.
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
