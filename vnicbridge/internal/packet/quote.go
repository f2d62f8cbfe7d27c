package packet

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Quote returns the beginning of the packet, for an ICMP error about it. The error then has
// at most 576 bytes (RFC 1812 §4.3.2.3), or 1280 in IPv6 (RFC 4443 §2.4 c).
func (p *Packet) Quote() []byte {
	if p.isIPv6() {
		return p.IP[:min(len(p.IP), ipv6MinMTU-IPv6HeaderLen-ICMPHeaderLen)]
	}
	return p.IP[:min(len(p.IP), 576-IPv4MinLen-ICMPHeaderLen)]
}

// ParseQuote parses the packet that an ICMP error quotes: the IP header, and at least 8 bytes
// of transport (RFC 792), which hold the ports. Extension headers of IPv6 may be in between.
// The quote may end anywhere after the ports, whatever its length field says. ok is false if
// the quote identifies no flow.
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

// RewriteQuote changes the tuple of the packet that the ICMP error p quotes, adds seq to its
// sequence number if it is TCP, and corrects the checksums: those in the quote, and that of the
// error, which covers the quote. If the quote contains its transport checksum, the correction of
// this one cancels that of the addresses of IPv6. If the quote ends before, it does not.
func (p *Packet) RewriteQuote(quoted Packet, to Tuple, seq uint32) {
	changing := quoted.IP[:min(len(quoted.IP), len(quoted.IP)-len(quoted.L4)+tcpMinLen)&^1]
	before := slices.Clone(changing)
	diff := quoted.RewriteAddresses(to)
	portDiff := quoted.rewritePorts(to)
	if quoted.Proto == config.TCP && seq != 0 {
		portDiff += quoted.addSeq(seq)
	}
	switch {
	case quoted.Proto == config.UDP:
		applyDiffUDP(quoted.L4[6:8], diff+portDiff)
	case quoted.Proto == config.ICMP:
		if !quoted.isIPv6() {
			diff = 0 // no pseudo header (RFC 792)
		}
		applyDiff(quoted.L4[2:4], diff+portDiff)
	case len(quoted.L4) >= tcpMinLen:
		applyDiff(quoted.L4[16:18], diff+portDiff)
	}
	applyDiff(p.L4[2:4], checksumDiff(before, changing))
}

// addSeq adds to the sequence number, and returns the difference by which the checksum must be
// corrected.
func (p *Packet) addSeq(n uint32) (diff uint32) {
	before := [4]byte(p.L4[4:8])
	add(p.L4[4:8], n)
	return checksumDiff(before[:], p.L4[4:8])
}
