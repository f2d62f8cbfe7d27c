package vnicbridge

import "slices"

// quote is what an ICMP error says of the packet that caused it: as much as fits
// into 576 bytes (RFC 1812 §4.3.2.3).
func (p *packet) quote() []byte {
	return p.ip[:min(len(p.ip), 576-ipv4MinLen-icmpHeaderLen)]
}

// parseQuote reads the packet that an ICMP error quotes: its header, and at least
// 8 bytes of its transport's (RFC 792), of which only the ports are needed. The
// quote may end anywhere behind them, whatever its length field says.
func parseQuote(quote []byte) (p packet, ok bool) {
	if p.parseHeader(quote) != keep || p.later || len(p.l4) < 8 {
		return p, false
	}
	switch p.proto {
	case TCP, UDP:
		p.setPorts()
		return p, true
	case ICMP:
		return p, p.parseEcho() == keep
	}
	return p, false
}

// rewriteQuote gives the packet that an ICMP error quotes the tuple that it had at the
// other end, and mends the checksum of the error, which covers the quote.
func (p *packet) rewriteQuote(quoted packet, to tuple) {
	changing := quoted.ip[:min(len(quoted.ip), len(quoted.ip)-len(quoted.l4)+tcpMinLen)&^1]
	before := slices.Clone(changing)
	diff := quoted.rewriteAddresses(to)
	portDiff := quoted.rewritePorts(to)
	switch {
	case quoted.proto == UDP:
		applyDiffUDP(quoted.l4[6:8], diff+portDiff)
	case quoted.proto == ICMP:
		applyDiff(quoted.l4[2:4], portDiff)
	case len(quoted.l4) >= tcpMinLen:
		applyDiff(quoted.l4[16:18], diff+portDiff)
	}
	applyDiff(p.l4[2:4], checksumDiff(before, changing))
}
