package packet

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Quote returns the beginning of the packet, for an ICMP error about it. The error then has
// at most 576 bytes (RFC 1812 §4.3.2.3).
func (p *Packet) Quote() []byte {
	return p.IP[:min(len(p.IP), 576-IPv4MinLen-ICMPHeaderLen)]
}

// ParseQuote parses the packet that an ICMP error quotes: the IP header, and at least
// 8 bytes behind it (RFC 792), which hold the ports. The quote may end anywhere after them,
// whatever its length field says. ok is false if the quote identifies no flow.
func ParseQuote(quote []byte) (p Packet, ok bool) {
	if p.ParseHeader(quote) != Keep || p.Later || len(p.L4) < 8 {
		return p, false
	}
	switch p.Proto {
	case config.TCP, config.UDP:
		p.SetPorts()
		return p, true
	case config.ICMP:
		return p, p.parseEcho() == Keep
	}
	return p, false
}

// RewriteQuote changes the tuple of the packet that the ICMP error p quotes, and corrects
// the checksums: those in the quote, and that of the error, which covers the quote.
func (p *Packet) RewriteQuote(quoted Packet, to Tuple) {
	changing := quoted.IP[:min(len(quoted.IP), len(quoted.IP)-len(quoted.L4)+tcpMinLen)&^1]
	before := slices.Clone(changing)
	diff := quoted.RewriteAddresses(to)
	portDiff := quoted.rewritePorts(to)
	switch {
	case quoted.Proto == config.UDP:
		applyDiffUDP(quoted.L4[6:8], diff+portDiff)
	case quoted.Proto == config.ICMP:
		applyDiff(quoted.L4[2:4], portDiff)
	case len(quoted.L4) >= tcpMinLen:
		applyDiff(quoted.L4[16:18], diff+portDiff)
	}
	applyDiff(p.L4[2:4], checksumDiff(before, changing))
}
