package packet

import (
	"bytes"
	"slices"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// FuzzIPv6 parses any bytes. Whatever they are, all that is said about them lies within
// them, and a packet that is rewritten there and back has the bytes that it had.
func FuzzIPv6(f *testing.F) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	tcp, udp, echo := testTCP(src, dst), testUDP(src, dst), testICMP(src, dst, ICMPv6Echo, "echo")
	quote := ipv6(src, dst, byte(config.UDP), udp, options(headerOptions, 8))
	for _, chain := range [][]header{
		nil, {options(headerHopByHop, 8)}, {options(headerHopByHop, 8), options(headerOptions, 24), fragment(0, false, 1)},
		{fragment(0, true, 1)}, {fragment(8, true, 1)}, {fragment(0, true, 1), options(headerOptions, 8)}, {routing(0, 1)}, {routing(4, 0)},
		slices.Repeat([]header{options(headerOptions, 8)}, 9), {fragment(0, false, 1), fragment(0, true, 1)}, {header{51, make([]byte, 24)}},
	} {
		f.Add(byte(0), byte(0), ipv6(src, dst, byte(config.TCP), tcp, chain...))
		f.Add(byte(VNetNeedsCsum), byte(0), ipv6(src, dst, byte(config.UDP), udp, chain...))
		f.Add(byte(0), byte(gsoTCPv6), ipv6(src, dst, nextICMPv6, echo, chain...))
		f.Add(byte(0), byte(0), ipv6(src, dst, nextICMPv6, testICMP(src, dst, ICMPv6PacketTooBig, string(quote)), chain...))
		f.Add(byte(0), byte(0), ipv6(src, dst, nextICMPv6, testICMP(src, dst, 135, "0123456789abcdef"), chain...))
	}
	other := Tuple{Src: mustAddr("fd00:50::8123:4567:89ab:cdef"), Dst: mustAddr("fd00:50::1"), Sport: 1, Dport: 2}
	f.Fuzz(func(t *testing.T, flags, gso byte, ip []byte) {
		fr := frameOf(ip)
		fr.Data[0], fr.Data[1] = flags, gso
		_ = fr.IsNeighbourDiscovery()
		p, verdict := ParseIPv6(&fr)
		if verdict != Keep {
			return
		}
		onlyOneZero(&p)
		before := slices.Clone(fr.Data)
		checkLayout(t, &p, len(ip))
		_, _ = p.RoutesOn()
		_ = p.Quote()
		switch {
		case p.ICMPError:
			thereAndBackError(&p, other)
		case p.Carried():
			thereAndBack(&p, other, fr.ChecksumUnfinished())
		}
		if onlyOneZero(&p); !bytes.Equal(fr.Data, before) {
			t.Errorf("there and back:\n%x\n%x", before, fr.Data)
		}
	})
}

func checkLayout(t *testing.T, p *Packet, length int) {
	if len(p.IP) > length || len(p.L4) > len(p.IP)-IPv6HeaderLen || !p.Src.IsIPv6() || !p.Dst.IsIPv6() {
		t.Fatalf("%d bytes of %d, %d of transport: %v", len(p.IP), length, len(p.L4), p.Tuple)
	}
	if chain := len(p.IP) - len(p.L4) - IPv6HeaderLen; chain > maxChainLen || chain%8 != 0 {
		t.Fatalf("%d bytes of headers", chain)
	}
	if p.Fragment {
		if part, ok := p.Part(); ok && (part.To <= part.From || p.Later != (part.From > 0)) {
			t.Fatalf("the part is %+v", part)
		}
	}
}

func thereAndBack(p *Packet, other Tuple, unfinished bool) {
	from := p.Tuple
	other.Proto = p.Proto
	if p.Proto == config.ICMP { // an echo has one port
		other.Sport = 0
		if !p.Later && p.IsEchoRequest() {
			other.Sport, other.Dport = other.Dport, 0
		}
	}
	p.Rewrite(other, unfinished)
	if p.Later {
		p.Tuple.Src, p.Tuple.Dst = other.Src, other.Dst
	}
	p.Rewrite(from, unfinished)
	if p.Fragment {
		id := p.ID()
		p.RewriteID(^id)
		p.RewriteID(id)
	}
}

func thereAndBackError(p *Packet, other Tuple) {
	from := p.Tuple
	quoted, ok := ParseQuote(p.L4[ICMPHeaderLen:])
	if ok && quoted.isIPv6() {
		inner := quoted.Tuple
		p.RewriteQuote(quoted, other, 0)
		quoted.Src, quoted.Dst, quoted.Sport, quoted.Dport = other.Src, other.Dst, other.Sport, other.Dport
		p.RewriteQuote(quoted, inner, 0)
	}
	p.RewriteAddresses(other)
	p.Src, p.Dst = other.Src, other.Dst
	p.RewriteAddresses(from)
}

// onlyOneZero writes zero for checksums of all ones, which are the same number in one's
// complement.
func onlyOneZero(p *Packet) {
	for _, l := range []*Packet{p, quotedBy(p)} {
		at := map[config.Protocol]int{config.TCP: 16, config.UDP: 6, config.ICMP: 2}[l.Proto]
		if at > 0 && !l.Later && len(l.L4) >= at+2 && l.L4[at]&l.L4[at+1] == 0xff {
			l.L4[at], l.L4[at+1] = 0, 0
		}
	}
}

func quotedBy(p *Packet) *Packet {
	if p.ICMPError {
		if quoted, ok := ParseQuote(p.L4[ICMPHeaderLen:]); ok {
			return &quoted
		}
	}
	return p
}
