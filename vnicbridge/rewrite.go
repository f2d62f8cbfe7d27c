package vnicbridge

import "encoding/binary"

// rewrite gives a packet the addresses, and where they differ the ports or the
// ICMP identifier, of another tuple of the same protocol, and mends the
// checksums that cover them. Nothing else of the packet changes (F2).
func (p *packet) rewrite(to tuple, checksumUnfinished bool) {
	diff := p.rewriteAddresses(to)
	if p.later {
		return
	}
	portDiff := p.rewritePorts(to)
	switch p.proto {
	case TCP:
		p.mendTransport(p.l4[16:18], diff, portDiff, checksumUnfinished, applyDiff)
	case UDP:
		p.mendTransport(p.l4[6:8], diff, portDiff, checksumUnfinished, applyDiffUDP)
	case ICMP:
		// RFC 792: the checksum covers the ICMP message only, no pseudo header.
		applyDiff(p.l4[2:4], portDiff)
	}
	p.tuple = to
}

// rewriteAddresses changes the IP header, and returns the difference for the
// transport's checksum.
func (p *packet) rewriteAddresses(to tuple) (diff uint32) {
	diff = checksumDiff(p.src.v4(), to.src.v4()) + checksumDiff(p.dst.v4(), to.dst.v4())
	copy(p.ip[12:16], to.src.v4())
	copy(p.ip[16:20], to.dst.v4())
	applyDiff(p.ip[10:12], diff)
	return diff
}

// rewriteID changes the identification of a fragment.
func (p *packet) rewriteID(id uint16) {
	diff := putWord(p.ip[4:6], p.id(), id)
	applyDiff(p.ip[10:12], diff)
}

func (p *packet) id() uint16 { return binary.BigEndian.Uint16(p.ip[4:]) }

// mendTransport mends the checksum of a transport that covers the pseudo header.
// An unfinished one holds the sum over the pseudo header alone: the ports are
// added when it is finished.
func (p *packet) mendTransport(field []byte, addrDiff, portDiff uint32, unfinished bool, apply func([]byte, uint32)) {
	if unfinished {
		applyDiffPartial(field, addrDiff)
	} else {
		apply(field, addrDiff+portDiff)
	}
}

// rewritePorts sets the ports, or the identifier of an echo, and returns the
// difference for the checksum.
func (p *packet) rewritePorts(to tuple) (diff uint32) {
	if p.proto == ICMP {
		return putWord(p.l4[4:6], p.sport+p.dport, to.sport+to.dport) // one of each pair is 0
	}
	return putWord(p.l4[0:2], p.sport, to.sport) + putWord(p.l4[2:4], p.dport, to.dport)
}

func putWord(field []byte, from, to uint16) uint32 {
	if from == to {
		return 0 // adding ~m + m would turn a sum of +0 into -0
	}
	binary.BigEndian.PutUint16(field, to)
	return uint32(^from) + uint32(to)
}
