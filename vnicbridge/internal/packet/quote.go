package packet

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Quote is what an ICMP error says of the packet that caused it: as much as fits
// into 576 bytes (RFC 1812 §4.3.2.3).
func (p *Packet) Quote() []byte {
	return p.IP[:min(len(p.IP), 576-IPv4MinLen-ICMPHeaderLen)]
}

// ParseQuote reads the packet that an ICMP error quotes: its header, and at least
// 8 bytes of its transport's (RFC 792), of which only the ports are needed. The
// quote may end anywhere behind them, whatever its length field says.
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

// RewriteQuote gives the packet that an ICMP error quotes the tuple that it had at the
// other end, and mends the checksum of the error, which covers the quote.
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
