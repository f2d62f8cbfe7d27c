package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// header is an extension header, as a test writes it. Its next header is set when it is put
// before another.
type header struct {
	kind byte
	body []byte // 8 bytes, or a multiple
}

func options(kind byte, length int) header {
	body := make([]byte, length)
	body[1], body[2], body[3] = byte(length/8-1), 1, byte(length-4) // PadN
	return header{kind, body}
}

func fragment(offset int, more bool, id uint32) header {
	body := binary.BigEndian.AppendUint32(make([]byte, 4), id)
	binary.BigEndian.PutUint16(body[2:], uint16(offset))
	if more {
		body[3] |= 1
	}
	return header{headerFragment, body}
}

func routing(kind, left byte) header {
	return header{headerRouting, []byte{0, 0, kind, left, 0, 0, 0, 0}}
}

const (
	testSrc = "2001:db8:9::9"
	testDst = "2001:db8:1::2"
)

func mustAddr(s string) Addr { return AddrOf(netip.MustParseAddr(s)) }

// ipv6 is an IPv6 packet.
func ipv6(src, dst Addr, last byte, l4 []byte, chain ...header) []byte {
	next := last
	body := slices.Clone(l4)
	for _, h := range slices.Backward(chain) {
		h.body = slices.Clone(h.body)
		h.body[0], next = next, h.kind
		body = append(h.body, body...)
	}
	ip := []byte{0x60, 0x12, 0x34, 0x56, 0, 0, next, 63}
	binary.BigEndian.PutUint16(ip[4:], uint16(len(body)))
	return slices.Concat(ip, src[:], dst[:], body)
}

func frameOf(ip []byte) Frame {
	f := Frame{Data: append(make([]byte, VNetHeaderLen+EthHeaderLen), ip...)}
	binary.BigEndian.PutUint16(f.Eth()[12:], EtherIPv6)
	return f
}

// checked returns a transport header and payload with a right checksum at an offset.
func checked(src, dst Addr, proto byte, at int, l4 []byte) []byte {
	l4 = slices.Clone(l4)
	l4[at], l4[at+1] = 0, 0
	binary.BigEndian.PutUint16(l4[at:], ^Fold(pseudoSum(src, dst, proto, l4)+sumOf(l4)))
	return l4
}

func pseudoSum(src, dst Addr, proto byte, l4 []byte) uint32 {
	return sumOf(src[:]) + sumOf(dst[:]) + uint32(proto) + uint32(len(l4))
}

func testTCP(src, dst Addr) []byte {
	l4 := []byte{0x0f, 0xa0, 0, 80, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0x50, TCPSYN, 2, 0, 0, 0, 0, 0}
	return checked(src, dst, byte(config.TCP), 16, append(l4, "payload"...))
}

func testUDP(src, dst Addr) []byte {
	return checked(src, dst, byte(config.UDP), 6, append([]byte{0x0f, 0xa0, 0, 53, 0, 15, 0, 0}, "payload"...))
}

func testICMP(src, dst Addr, kind byte, body string) []byte {
	return checked(src, dst, nextICMPv6, 2, append([]byte{kind, 0, 0, 0, 0x0f, 0xa0, 0, 1}, body...))
}

// Rows F1, F7, F13, S1: what the parser makes of headers.
func TestParseIPv6(t *testing.T) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	tcp, udp, echo := testTCP(src, dst), testUDP(src, dst), testICMP(src, dst, ICMPv6Echo, "echo")
	pad := options(headerOptions, 8)
	eight := slices.Repeat([]header{pad}, 8)
	mapped := AddrFrom4([]byte{10, 0, 0, 1})
	cut := func(ip []byte, n int) []byte {
		ip = slices.Clone(ip[:n])
		binary.BigEndian.PutUint16(ip[4:], uint16(n-IPv6HeaderLen))
		return ip
	}
	const tcpNext, udpNext = byte(config.TCP), byte(config.UDP)
	for _, tc := range []struct {
		name    string
		ip      []byte
		verdict DropReason
		proto   config.Protocol // where the verdict is Keep
		tuple   [2]uint16
		what    string // fragment, later, error
	}{
		{name: "TCP", ip: ipv6(src, dst, tcpNext, tcp), proto: config.TCP, tuple: [2]uint16{4000, 80}},
		{name: "UDP", ip: ipv6(src, dst, udpNext, udp), proto: config.UDP, tuple: [2]uint16{4000, 53}},
		{name: "an echo request", ip: ipv6(src, dst, nextICMPv6, echo), proto: config.ICMP, tuple: [2]uint16{4000, 0}},
		{name: "an echo reply", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, ICMPv6EchoReply, "")), proto: config.ICMP, tuple: [2]uint16{0, 4000}},
		{name: "padding behind it", ip: append(ipv6(src, dst, udpNext, udp), 0, 0, 0), proto: config.UDP, tuple: [2]uint16{4000, 53}},

		{name: "no header", ip: nil, verdict: DropMalformed},
		{name: "half a header", ip: ipv6(src, dst, tcpNext, tcp)[:39], verdict: DropMalformed},
		{name: "version 4", ip: append([]byte{0x45}, ipv6(src, dst, tcpNext, tcp)[1:]...), verdict: DropMalformed},
		{name: "longer than the frame", ip: ipv6(src, dst, tcpNext, tcp)[:50], verdict: DropMalformed},
		{name: "a short TCP header", ip: cut(ipv6(src, dst, tcpNext, tcp), 59), verdict: DropMalformed},
		{name: "a short ICMPv6 message", ip: cut(ipv6(src, dst, nextICMPv6, echo), 47), verdict: DropMalformed},
		{name: "no payload", ip: ipv6(src, dst, 59, nil), verdict: DropMalformed},
		{name: "a jumbogram", ip: func() []byte {
			ip := ipv6(src, dst, tcpNext, tcp, options(headerHopByHop, 8))
			ip[4], ip[5] = 0, 0
			return ip
		}(), verdict: DropMalformed},
		{name: "from a mapped address", ip: ipv6(mapped, dst, tcpNext, tcp), verdict: DropSource},
		{name: "to a mapped address", ip: ipv6(src, mapped, tcpNext, tcp), verdict: DropNotForUs},
		{name: "from a mapped address, by a router", ip: ipv6(mapped, dst, tcpNext, tcp, routing(0, 1)), verdict: DropSource},

		{name: "hop-by-hop options", ip: ipv6(src, dst, udpNext, udp, options(headerHopByHop, 16)), proto: config.UDP, tuple: [2]uint16{4000, 53}},
		{name: "both options", ip: ipv6(src, dst, tcpNext, tcp, options(headerHopByHop, 8), pad), proto: config.TCP, tuple: [2]uint16{4000, 80}},
		{name: "eight headers", ip: ipv6(src, dst, udpNext, udp, eight...), proto: config.UDP, tuple: [2]uint16{4000, 53}},
		{name: "nine headers", ip: ipv6(src, dst, udpNext, udp, append(eight, pad)...), verdict: DropMalformed},
		{name: "512 bytes of headers", ip: ipv6(src, dst, udpNext, udp, options(headerOptions, 256), options(headerOptions, 256)), proto: config.UDP, tuple: [2]uint16{4000, 53}},
		{name: "520 bytes of headers", ip: ipv6(src, dst, udpNext, udp, options(headerOptions, 256), options(headerOptions, 264)), verdict: DropMalformed},
		{name: "options longer than the packet", ip: cut(ipv6(src, dst, udpNext, udp, options(headerOptions, 64)), 60), verdict: DropMalformed},
		{name: "half an option header", ip: cut(ipv6(src, dst, udpNext, udp, pad), 41), verdict: DropMalformed},
		{name: "hop-by-hop options behind others", ip: ipv6(src, dst, udpNext, udp, pad, options(headerHopByHop, 8)), proto: headerHopByHop},

		{name: "ICMP of IPv4", ip: ipv6(src, dst, nextICMPv4, []byte{8, 0, 0, 0, 0, 1, 0, 1}), proto: nextReserved},
		{name: "ESP", ip: ipv6(src, dst, 50, udp), proto: 50},
		{name: "AH", ip: ipv6(src, dst, tcpNext, tcp, header{51, make([]byte, 24)}), proto: 51},
		{name: "no next header", ip: ipv6(src, dst, 59, udp), proto: 59},
		{name: "mobility", ip: ipv6(src, dst, 135, make([]byte, 8)), proto: 135},
		{name: "for experiments", ip: ipv6(src, dst, 253, nil, pad), proto: 253},
		{name: "a routing header", ip: ipv6(src, dst, tcpNext, tcp, routing(2, 0)), proto: headerRouting},

		{name: "router solicitation", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, 133, "")), verdict: DropICMP},
		{name: "redirect", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, 137, "")), verdict: DropICMP},
		{name: "MLD query", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, 130, "")), verdict: DropICMP},
		{name: "an echo of IPv4's type", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, ICMPEcho, "")), verdict: DropICMP},
		{name: "an unknown error", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, 5, "")), verdict: DropICMP},
		{name: "packet too big", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, ICMPv6PacketTooBig, "quote")), proto: config.ICMP, what: "error"},
		{name: "parameter problem", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, ICMPv6ParameterProblem, "quote")), proto: config.ICMP, what: "error"},

		{name: "an atomic fragment", ip: ipv6(src, dst, udpNext, udp, fragment(0, false, 7)), proto: config.UDP, tuple: [2]uint16{4000, 53}},
		{name: "a first fragment", ip: ipv6(src, dst, udpNext, udp, fragment(0, true, 7)), proto: config.UDP, tuple: [2]uint16{4000, 53}, what: "fragment"},
		{name: "a first fragment with options", ip: ipv6(src, dst, udpNext, udp, options(headerHopByHop, 8), fragment(0, true, 7), pad), proto: config.UDP, tuple: [2]uint16{4000, 53}, what: "fragment"},
		{name: "a first fragment without ports", ip: ipv6(src, dst, udpNext, nil, fragment(0, true, 7)), verdict: DropMalformed},
		{name: "a first fragment within options", ip: cut(ipv6(src, dst, udpNext, udp, fragment(0, true, 7), options(headerOptions, 64)), 64), verdict: DropMalformed},
		{name: "a first fragment of an echo", ip: ipv6(src, dst, nextICMPv6, echo, fragment(0, true, 7)), proto: config.ICMP, tuple: [2]uint16{4000, 0}, what: "fragment"},
		{name: "a first fragment of an error", ip: ipv6(src, dst, nextICMPv6, testICMP(src, dst, ICMPv6PacketTooBig, "quote"), fragment(0, true, 7)), verdict: DropMalformed},
		{name: "a later fragment", ip: ipv6(src, dst, udpNext, []byte("any"), fragment(8, false, 7)), proto: config.UDP, what: "later"},
		{name: "a later fragment behind options", ip: ipv6(src, dst, headerOptions, nil, fragment(8, true, 7)), proto: headerOptions, what: "later"},
		{name: "a fragment of a fragment", ip: ipv6(src, dst, udpNext, udp, fragment(0, true, 7), fragment(0, true, 8)), proto: headerFragment, what: "fragment"},
		{name: "half a fragment header", ip: cut(ipv6(src, dst, udpNext, udp, fragment(0, true, 7)), 44), verdict: DropMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := frameOf(tc.ip)
			p, verdict := ParseIPv6(&f)
			if verdict != tc.verdict {
				t.Fatalf("the verdict is %d, want %d", verdict, tc.verdict)
			}
			if verdict != Keep {
				return
			}
			want := Tuple{Src: src, Dst: dst, Sport: tc.tuple[0], Dport: tc.tuple[1], Proto: tc.proto}
			if p.Tuple != want {
				t.Errorf("the tuple is %v, want %v", p.Tuple, want)
			}
			if p.Fragment != (tc.what == "fragment" || tc.what == "later") || p.Later != (tc.what == "later") || p.ICMPError != (tc.what == "error") {
				t.Errorf("it is a fragment: %v, a later one: %v, an error: %v", p.Fragment, p.Later, p.ICMPError)
			}
			if known := tc.proto.Carried() || tc.what == "later"; p.Carried() != known {
				t.Errorf("it is carried: %v, want %v", p.Carried(), known)
			}
		})
	}
}

// Row F8: a super-packet of TCP that is longer than the length field can tell is a packet; a
// single packet without a length is none.
func TestLargeSuperPackets(t *testing.T) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	ip := ipv6(src, dst, byte(config.TCP), append(testTCP(src, dst), make([]byte, 70000)...))
	ip[4], ip[5] = 0, 0
	for kind, want := range map[byte]DropReason{GSONone: DropMalformed, gsoTCPv4: DropMalformed, gsoTCPv6: Keep, 0x80 | gsoTCPv6: Keep, 5: DropMalformed} {
		f := frameOf(ip)
		f.Data[1] = kind
		p, verdict := ParseIPv6(&f)
		if verdict != want || verdict == Keep && len(p.IP) != len(ip) {
			t.Errorf("type %d: %v, %d bytes", kind, verdict, len(p.IP))
		}
	}
}

// Row F13: which routing headers a Parameter Problem answers, and where it points.
func TestRoutesOn(t *testing.T) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	tcp := testTCP(src, dst)
	for _, tc := range []struct {
		name    string
		chain   []header
		pointer uint32
		ok      bool
	}{
		{"none", nil, 0, false},
		{"type 0", []header{routing(0, 1)}, 42, true},
		{"type 0, at its end", []header{routing(0, 0)}, 42, true},
		{"type 2", []header{routing(2, 1)}, 42, true},
		{"type 2, at its end", []header{routing(2, 0)}, 42, false},
		{"segment routing, behind options", []header{options(headerHopByHop, 8), options(headerOptions, 16), routing(4, 3)}, 66, true},
	} {
		f := frameOf(ipv6(src, dst, byte(config.TCP), tcp, tc.chain...))
		p, _ := ParseIPv6(&f)
		if pointer, ok := p.RoutesOn(); ok != tc.ok || ok && pointer != tc.pointer {
			t.Errorf("%s: %d, %v", tc.name, pointer, ok)
		}
	}
	for kind, want := range map[byte]bool{ICMPv6Echo: true, 135: true, ICMPv6PacketTooBig: false, 127: false, 137: false} {
		f := frameOf(ipv6(src, dst, nextICMPv6, testICMP(src, dst, kind, "body"), routing(0, 1)))
		p, _ := ParseIPv6(&f)
		if _, ok := p.RoutesOn(); ok != want {
			t.Errorf("ICMPv6 type %d behind a routing header may be answered: %v", kind, ok)
		}
	}
	hidden := frameOf(ipv6(src, dst, nextICMPv6, testICMP(src, dst, ICMPv6PacketTooBig, "body"), routing(0, 1), options(headerOptions, 8)))
	p, _ := ParseIPv6(&hidden)
	if _, ok := p.RoutesOn(); ok {
		t.Error("an error behind options behind a routing header may be answered")
	}
	f := frameOf(ipv6(src, dst, headerRouting, []byte{0, 0, 0}))
	if p, _ := ParseIPv6(&f); p.Proto != headerRouting {
		t.Errorf("a cut one is %v", p.Proto)
	} else if _, ok := p.RoutesOn(); ok {
		t.Error("a cut one has a type")
	}
}

// Rows F2, F3: rewriting changes addresses, ports or identifier and checksums, and nothing
// else; there and back gives the same bytes.
func TestRewriteIPv6(t *testing.T) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	to := Tuple{Src: mustAddr("fd00:50::8123:4567:89ab:cdef"), Dst: mustAddr("fd00:50::1")}
	chain := []header{options(headerHopByHop, 8), options(headerOptions, 8)}
	for _, tc := range []struct {
		name         string
		next         byte
		l4           []byte
		checksum     int
		sport, dport uint16 // new ones
	}{
		{"TCP", byte(config.TCP), testTCP(src, dst), 16, 1, 2},
		{"UDP", byte(config.UDP), testUDP(src, dst), 6, 3, 4},
		{"an echo request", nextICMPv6, testICMP(src, dst, ICMPv6Echo, "odd"), 2, 5, 0},
		{"an echo reply", nextICMPv6, testICMP(src, dst, ICMPv6EchoReply, "even"), 2, 0, 6},
	} {
		for _, damage := range []byte{0, 1} {
			for _, unfinished := range []bool{false, true} {
				l4 := slices.Clone(tc.l4)
				l4[len(l4)-1] ^= damage
				if unfinished {
					binary.BigEndian.PutUint16(l4[tc.checksum:], Fold(pseudoSum(src, dst, tc.next, l4)))
				}
				f := frameOf(ipv6(src, dst, tc.next, l4, chain...))
				before := slices.Clone(f.Data)
				p, verdict := ParseIPv6(&f)
				if verdict != Keep {
					t.Fatal(tc.name, verdict)
				}
				from := p.Tuple
				want := Tuple{Src: to.Src, Dst: to.Dst, Sport: tc.sport, Dport: tc.dport, Proto: p.Proto}
				p.Rewrite(want, unfinished)
				again, verdict := ParseIPv6(&f)
				if verdict != Keep || again.Tuple != want {
					t.Errorf("%s became %v, %v", tc.name, again.Tuple, verdict)
				}
				switch {
				case unfinished:
					if got := binary.BigEndian.Uint16(again.L4[tc.checksum:]); got != Fold(pseudoSum(to.Src, to.Dst, tc.next, l4)) {
						t.Errorf("%s: the unfinished checksum is %x", tc.name, got)
					}
				default:
					valid := Fold(pseudoSum(to.Src, to.Dst, tc.next, again.L4)+sumOf(again.L4)) == 0xffff
					if valid != (damage == 0) {
						t.Errorf("%s, damaged by %d: the checksum is right: %v", tc.name, damage, valid)
					}
				}
				p.Rewrite(from, unfinished)
				if !bytes.Equal(f.Data, before) {
					t.Errorf("%s: there and back:\n%x\n%x", tc.name, before, f.Data)
				}
			}
		}
	}
}

// Row F3: a UDP checksum of zero stays zero, and one that becomes zero is sent as all ones.
func TestZeroChecksumsIPv6(t *testing.T) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	udp := testUDP(src, dst)
	udp[6], udp[7] = 0, 0
	f := frameOf(ipv6(src, dst, byte(config.UDP), udp))
	p, _ := ParseIPv6(&f)
	p.Rewrite(Tuple{Src: dst, Dst: mustAddr("fd00:50::1"), Sport: 4000, Dport: 53, Proto: config.UDP}, false)
	if p.L4[6]|p.L4[7] != 0 {
		t.Errorf("no checksum became %x", p.L4[6:8])
	}
	for port := range 1 << 16 { // one of them makes the sum all ones
		f := frameOf(ipv6(src, dst, byte(config.UDP), testUDP(src, dst)))
		p, _ := ParseIPv6(&f)
		p.Rewrite(Tuple{Src: src, Dst: dst, Sport: uint16(port), Dport: 53, Proto: config.UDP}, false)
		if p.L4[6]|p.L4[7] == 0 {
			t.Fatalf("port %d: the checksum is sent as zero", port)
		}
	}
}

// Row F6: an error's quote is rewritten with its checksums, and the error's own checksum
// follows the quote and the addresses, wherever the quote ends.
func TestRewriteIPv6Errors(t *testing.T) {
	client, server, alias, pseudo := mustAddr(testSrc), mustAddr("fd00:50::1"), mustAddr("fd00:50::8123:4567:89ab:cdef"), mustAddr(testDst)
	router := mustAddr("fe80::1")
	answers := map[string]struct {
		next  byte
		l4    []byte
		ports [2]uint16 // in the segment
	}{
		"TCP":  {byte(config.TCP), testTCP(pseudo, client), [2]uint16{4001, 80}},
		"UDP":  {byte(config.UDP), testUDP(pseudo, client), [2]uint16{4001, 53}},
		"echo": {nextICMPv6, testICMP(pseudo, client, ICMPv6Echo, "payload"), [2]uint16{4001, 0}},
	}
	for name, tc := range answers {
		for _, chain := range [][]header{nil, {options(headerOptions, 8)}, {fragment(0, true, 9)}, {options(headerHopByHop, 16), fragment(0, false, 9)}} {
			for _, quoted := range []int{8, 12, 17, 18, 19, 20, 100} {
				quote := ipv6(pseudo, client, tc.next, tc.l4, chain...)
				quote = quote[:min(len(quote), len(quote)-len(tc.l4)+quoted)]
				for _, kind := range []byte{ICMPv6Unreachable, ICMPv6PacketTooBig, ICMPv6TimeExceeded, ICMPv6ParameterProblem} {
					f := frameOf(ipv6(router, pseudo, nextICMPv6, testICMP(router, pseudo, kind, string(quote))))
					p, verdict := ParseIPv6(&f)
					if verdict != Keep || !p.ICMPError || !p.ValidICMP() {
						t.Fatal(name, verdict)
					}
					inner, ok := ParseQuote(p.L4[ICMPHeaderLen:])
					if !ok {
						t.Fatalf("%s: %d bytes of transport are not enough", name, quoted)
					}
					p.RewriteQuote(inner, Tuple{Src: server, Dst: alias, Sport: tc.ports[0], Dport: tc.ports[1], Proto: inner.Proto}, 0)
					p.RewriteAddresses(Tuple{Src: mustAddr("fd00:50::2"), Dst: server})
					again, verdict := ParseIPv6(&f)
					if verdict != Keep || !again.ValidICMP() || again.Src != mustAddr("fd00:50::2") || again.Dst != server {
						t.Errorf("%s, %d bytes: %v, %v", name, quoted, verdict, again.Tuple)
					}
					inner, ok = ParseQuote(again.L4[ICMPHeaderLen:])
					if !ok || inner.Src != server || inner.Dst != alias || inner.Sport != tc.ports[0] || inner.Dport != tc.ports[1] {
						t.Errorf("%s, %d bytes: the quote is %v", name, quoted, inner.Tuple)
					}
					if len(inner.L4) == len(tc.l4) && Fold(pseudoSum(server, alias, tc.next, inner.L4)+sumOf(inner.L4)) != 0xffff {
						t.Errorf("%s: the quoted checksum is wrong", name)
					}
				}
			}
		}
	}
}

// Row F6: quotes that identify no flow.
func TestUselessQuotes(t *testing.T) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	tcp := testTCP(src, dst)
	for name, quote := range map[string][]byte{
		"nothing":             {},
		"half a header":       ipv6(src, dst, byte(config.TCP), tcp)[:39],
		"7 bytes":             ipv6(src, dst, byte(config.TCP), tcp)[:47],
		"a cut chain":         ipv6(src, dst, byte(config.TCP), tcp, options(headerOptions, 64))[:60],
		"a later fragment":    ipv6(src, dst, byte(config.TCP), tcp, fragment(8, false, 1)),
		"a routing header":    ipv6(src, dst, byte(config.TCP), tcp, routing(0, 0)),
		"ESP":                 ipv6(src, dst, 50, tcp),
		"an error":            ipv6(src, dst, nextICMPv6, testICMP(src, dst, ICMPv6TimeExceeded, "quote")),
		"ICMP of IPv4":        ipv6(src, dst, nextICMPv4, testICMP(src, dst, ICMPv6Echo, "")),
		"a mapped address":    ipv6(src, AddrFrom4([]byte{10, 0, 0, 1}), byte(config.TCP), tcp),
		"nine option headers": ipv6(src, dst, byte(config.TCP), tcp, slices.Repeat([]header{options(headerOptions, 8)}, 9)...),
	} {
		if p, ok := ParseQuote(quote); ok {
			t.Errorf("%s identifies %v", name, p.Tuple)
		}
	}
}

// Rows F6, F8: an error has at most 1280 bytes.
func TestQuoteIPv6(t *testing.T) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	f := frameOf(ipv6(src, dst, byte(config.TCP), append(testTCP(src, dst), make([]byte, 2000)...)))
	p, _ := ParseIPv6(&f)
	if n := len(p.Quote()); n != 1280-40-8 {
		t.Errorf("%d bytes are quoted", n)
	}
	f = frameOf(ipv6(src, dst, byte(config.UDP), testUDP(src, dst)))
	if p, _ = ParseIPv6(&f); len(p.Quote()) != len(p.IP) {
		t.Errorf("%d bytes are quoted of %d", len(p.Quote()), len(p.IP))
	}
}

// Row F7: the parts of fragments, and their identifications, which no checksum covers.
func TestFragmentPartsIPv6(t *testing.T) {
	src, dst := mustAddr(testSrc), mustAddr(testDst)
	payload := func(n int) []byte { return make([]byte, n) }
	for _, tc := range []struct {
		name  string
		l4    []byte
		chain []header
		part  FragmentPart
		ok    bool
	}{
		{"a middle one", payload(1480), []header{fragment(1480, true, 1)}, FragmentPart{1480, 2960, false}, true},
		{"the last one", payload(13), []header{fragment(1480, false, 1)}, FragmentPart{1480, 1493, true}, true},
		{"behind options", payload(16), []header{options(headerHopByHop, 16), fragment(1480, true, 1)}, FragmentPart{1480, 1496, false}, true},
		{"a first one with options", testUDP(src, dst)[:8], []header{fragment(0, true, 1), options(headerOptions, 16)}, FragmentPart{0, 24, false}, true},
		{"an empty one", nil, []header{fragment(1480, true, 1)}, FragmentPart{}, false},
		{"one that does not end at 8 bytes", payload(13), []header{fragment(1480, true, 1)}, FragmentPart{}, false},
		{"up to the largest datagram", payload(7), []header{fragment(65528, false, 1)}, FragmentPart{65528, 65535, true}, true},
		{"beyond the largest datagram", payload(8), []header{fragment(65528, false, 1)}, FragmentPart{}, false},
		{"beyond it with its options", payload(7), []header{options(headerHopByHop, 8), fragment(65528, false, 1)}, FragmentPart{}, false},
	} {
		f := frameOf(ipv6(src, dst, byte(config.UDP), tc.l4, tc.chain...))
		p, verdict := ParseIPv6(&f)
		if verdict != Keep {
			t.Errorf("%s: %v", tc.name, verdict)
			continue
		}
		if part, ok := p.Part(); ok != tc.ok || ok && part != tc.part {
			t.Errorf("%s: %+v, %v", tc.name, part, ok)
		}
		before := slices.Clone(f.Data)
		if p.ID() != 1 {
			t.Errorf("%s: the identification is %d", tc.name, p.ID())
		}
		p.RewriteID(0xdeadbeef)
		if again, _ := ParseIPv6(&f); again.ID() != 0xdeadbeef {
			t.Errorf("%s: the new identification is %x", tc.name, again.ID())
		}
		if p.RewriteID(1); !bytes.Equal(f.Data, before) {
			t.Errorf("%s: another identification changed other bytes", tc.name)
		}
	}
}

// Rows A1, A9: which frames are NDP and MLD, whatever bytes they have.
func TestIsNeighbourDiscovery(t *testing.T) {
	src, dst := mustAddr("fe80::1"), mustAddr(testDst)
	message := func(kind byte, chain ...header) []byte {
		return ipv6(src, dst, nextICMPv6, testICMP(src, dst, kind, "0123456789abcdef"), chain...)
	}
	hop := options(headerHopByHop, 8)
	for kind := range 256 {
		ndp, mld := kind >= 133 && kind <= 137, kind >= 130 && kind <= 132 || kind == 143
		f := frameOf(message(byte(kind)))
		if f.IsNeighbourDiscovery() != ndp {
			t.Errorf("type %d: %v", kind, !ndp)
		}
		f = frameOf(message(byte(kind), hop))
		if f.IsNeighbourDiscovery() != mld {
			t.Errorf("type %d behind options: %v", kind, !mld)
		}
	}
	whole := frameOf(message(130, options(headerHopByHop, 16)))
	for n := range len(whole.Data) {
		f := Frame{Data: whole.Data[:n]}
		if want := n > VNetHeaderLen+EthHeaderLen+IPv6HeaderLen+16; f.IsNeighbourDiscovery() != want {
			t.Errorf("%d bytes: %v", n, !want)
		}
	}
	other := frameOf(message(135))
	binary.BigEndian.PutUint16(other.Eth()[12:], EtherIPv4)
	if other.IsNeighbourDiscovery() {
		t.Error("a frame of IPv4 is NDP")
	}
}
