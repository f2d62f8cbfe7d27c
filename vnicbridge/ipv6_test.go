package vnicbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// Rows F1 to F3 in IPv6: TCP, UDP and echo both ways, with extension headers or without.
// MACs, addresses and checksums change, and nothing else does.
func TestIPv6BothWays(t *testing.T) {
	chains := map[string][]extension{
		"plain":       nil,
		"hop-by-hop":  {optionsOf(headerHop, 8)},
		"destination": {optionsOf(headerOptions, 16)},
		"both":        {optionsOf(headerHop, 24), optionsOf(headerOptions, 8), optionsOf(headerOptions, 8)},
		"atomic":      {fragmentOf(0, false, 0xdeadbeef)},
	}
	packets := map[string]struct{ in, out func(in, out ends) []byte }{
		"TCP":  {func(in, _ ends) []byte { return in.tcp("S", "") }, func(_, out ends) []byte { return out.tcp("SA", "") }},
		"UDP":  {func(in, _ ends) []byte { return in.udp("question") }, func(_, out ends) []byte { return out.udp("an answer") }},
		"echo": {func(in, _ ends) []byte { in.dport = 0; return in.echo("ping") }, func(_, out ends) []byte { out.sport = 0; return out.echo("ping") }},
	}
	for name, chain := range chains {
		for kind, build := range packets {
			for _, client := range []string{farHost6, router6} {
				t.Run(fmt.Sprint(kind, " ", name, " ", client), func(t *testing.T) {
					inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
						in := in6(client, 4000, 80)
						frame := withHeaders(build.in(in, ends{}), chain...)
						r.put("nic0", frame)
						got := r.one("vnic-A")
						d := decode(got)
						if d.dst != serverA6 || !netip.MustParsePrefix("fd00:50::/64").Contains(netip.MustParseAddr(d.src)) || d.dstMAC != vnicAMAC || d.srcMAC != routerMAC {
							t.Errorf("inwards: %+v", d)
						}
						if client == router6 && d.src != routerOnA6 {
							t.Errorf("the gateway is %s on the segment", d.src)
						}
						wantRewritten(t, frame, got)

						answer := withHeaders(build.out(in, fromA6(d.src, 80, 4000)), chain...)
						r.put("vnic-A", answer)
						got = r.one("nic0")
						if d = decode(got); d.src != pseudo6 || d.dst != client || d.srcMAC != nicMAC || d.dstMAC != routerMAC {
							t.Errorf("outwards: %+v", d)
						}
						wantRewritten(t, answer, got)
						if n := r.plane.Status().Flows; n != 1 {
							t.Errorf("%d flows, want 1", n)
						}
						r.silent("vnic-B")
					})
				})
			}
		}
	}
}

// wantRewritten checks that MACs, addresses and a transport checksum are all that two frames
// differ in, and that the checksum is right.
func wantRewritten(t *testing.T, before, after []byte) {
	t.Helper()
	d := decode(after)
	if !d.valid || d.ttl != 63 || d.tos != 2 || d.label != 0x12345 {
		t.Errorf("%+v", d)
	}
	if len(before) != len(after) {
		t.Fatalf("%d bytes became %d", len(before), len(after))
	}
	checksum := map[config.Protocol]int{config.TCP: 16, config.UDP: 6, config.ICMP: 2}[d.proto] + packet.EthHeaderLen + ipv6HeaderLen + len(d.headers)
	for i := range before {
		rewritten := i < 12 || i >= packet.EthHeaderLen+8 && i < packet.EthHeaderLen+ipv6HeaderLen || i == checksum || i == checksum+1
		if !rewritten && before[i] != after[i] {
			t.Errorf("byte %d: %x became %x", i, before[i], after[i])
		}
	}
}

// Rows F1, F12: a segment opens flows outwards, under the pseudo address.
func TestIPv6Egress(t *testing.T) {
	cfg := dualConfig()
	cfg.Segments["a"].Egress = config.EgressAny
	inIPv6(t, cfg, func(t *testing.T, r *rig) {
		r.put("vnic-A", fromA6(farHost6, 1000, 53).udp("question"))
		if d := decode(r.one("nic0")); d.src != pseudo6 || d.dst != farHost6 || d.sport != 1000 || !d.valid {
			t.Errorf("outwards: %+v", d)
		}
		r.put("nic0", in6(farHost6, 53, 1000).udp("answer"))
		if d := decode(r.one("vnic-A")); d.src != farHost6 || d.dst != serverA6 || d.payload != "answer" || !d.valid {
			t.Errorf("inwards: %+v", d)
		}
		r.put("vnic-A", fromA6(routerOnA6, 1000, 53).tcp("S", ""))
		if d := decode(r.one("nic0")); d.dst != router6 || !d.valid {
			t.Errorf("to the gateway: %+v", d)
		}
	})
}

// Row F3 in IPv6: a checksum that a device has yet to finish holds the sum over the pseudo
// header, and must do so after the rewriting.
func TestIPv6UnfinishedChecksums(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		sum := func(raw []byte) uint16 {
			ip := raw[packet.EthHeaderLen:]
			return plainSum(slices.Concat(ip[8:40], []byte{0, 0}, ip[4:6], []byte{0, 0, 0, ip[6]}))
		}
		raw := in6(farHost6, 4000, 80).tcp("S", "payload")
		const at = packet.EthHeaderLen + ipv6HeaderLen + 16
		binary.BigEndian.PutUint16(raw[at:], sum(raw))
		f := asFrame(raw)
		f.Data[0] = packet.VNetNeedsCsum
		r.machine.devices["nic0"].in <- f
		synctest.Wait()
		got := r.one("vnic-A")
		if binary.BigEndian.Uint16(got[at:]) != sum(got) {
			t.Errorf("the sum is %x, want %x", got[at:at+2], sum(got))
		}
	})
}

// Row F3 in IPv6: wrong stays wrong, and a UDP checksum of zero stays zero.
func TestIPv6WrongChecksums(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		for name, frame := range map[string][]byte{
			"TCP": in6(farHost6, 4000, 80).tcp("S", "x"), "UDP": in6(farHost6, 4000, 80).udp("x"), "echo": in6(farHost6, 4000, 0).echo("x"),
		} {
			frame[len(frame)-1] ^= 1
			r.put("nic0", frame)
			if decode(r.one("vnic-A")).valid {
				t.Errorf("%s: a wrong checksum became right", name)
			}
		}
		zero := in6(farHost6, 4000, 80).udp("x")
		const at = packet.EthHeaderLen + ipv6HeaderLen + 6
		zero[at], zero[at+1] = 0, 0
		r.put("nic0", zero)
		if got := r.one("vnic-A"); got[at]|got[at+1] != 0 {
			t.Errorf("a checksum of zero became %x", got[at:at+2])
		}
	})
}

// Row F6 in IPv6, inwards: errors reach the segment from the alias of the host that sent
// them, wherever the quote ends, and with extension headers in the quote.
func TestIPv6ErrorsInwards(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		alias := r.open6(farHost6, 4000)
		for _, chain := range [][]extension{nil, {optionsOf(headerHop, 8), optionsOf(headerOptions, 16)}} {
			r.put("vnic-A", withHeaders(fromA6(alias, 80, 4000).tcp("A", "data of the answer"), chain...))
			sent := r.one("nic0")
			headers := len(decode(sent).headers)
			for _, transport := range []int{8, 18, 20, 1000} {
				for kind := uint8(packet.ICMPv6Unreachable); kind <= packet.ICMPv6ParameterProblem; kind++ {
					r.put("nic0", in6(farHost6, 0, 0).icmpErrorAbout(kind, sent, ipv6HeaderLen+headers+transport))
					d := decode(r.one("vnic-A"))
					if d.src != alias || d.dst != serverA6 || d.icmp != kind || d.code != 1 || d.value != 1400 || !d.valid {
						t.Errorf("type %d, %d bytes: %+v", kind, transport, d)
					}
					quote := []byte(d.payload)
					l4 := quote[ipv6HeaderLen+headers:]
					src, dst := netip.AddrFrom16([16]byte(quote[8:])).String(), netip.AddrFrom16([16]byte(quote[24:])).String()
					if sport, dport := binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:]); src != serverA6 || dst != alias || sport != 80 || dport != 4000 {
						t.Errorf("type %d, %d bytes: quotes %s:%d to %s:%d", kind, transport, src, sport, dst, dport)
					}
					if transport == 1000 && !quoteIn(d).valid {
						t.Errorf("type %d: the quoted checksum is wrong", kind)
					}
				}
			}
		}
		// From a router on the way, whose alias is another one.
		sent := func() []byte { r.put("vnic-A", fromA6(alias, 80, 4000).tcp("A", "x")); return r.one("nic0") }()
		r.put("nic0", in6("2001:db8:77::1", 0, 0).icmpErrorAbout(packet.ICMPv6TimeExceeded, sent, 1000))
		if d := decode(r.one("vnic-A")); d.src == alias || d.dst != serverA6 || !d.valid {
			t.Errorf("from a router: %+v", d)
		}
		r.put("nic0", in6(router6, 0, 0).icmpErrorAbout(packet.ICMPv6TimeExceeded, sent, 1000))
		if d := decode(r.one("vnic-A")); d.src != routerOnA6 || !d.valid {
			t.Errorf("from the gateway: %+v", d)
		}
		if n := r.plane.Status().Flows; n != 1 {
			t.Errorf("%d flows, want 1", n)
		}
	})
}

// Row F6 in IPv6, outwards: errors of a segment reach the client in the name of the pseudo
// address.
func TestIPv6ErrorsOutwards(t *testing.T) {
	for name, frame := range map[string][]byte{
		"UDP": in6(farHost6, 4000, 53).udp("question"), "echo": in6(farHost6, 4000, 0).echo("ping"), "TCP": in6(farHost6, 4000, 80).tcp("S", ""),
		"with options": withHeaders(in6(farHost6, 4000, 53).udp("question"), optionsOf(headerOptions, 8)),
	} {
		t.Run(name, func(t *testing.T) {
			inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
				r.put("nic0", frame)
				arrived := r.one("vnic-A")
				r.put("vnic-A", fromA6(decode(arrived).src, 0, 0).icmpErrorAbout(packet.ICMPv6Unreachable, arrived, 1000))
				d := decode(r.one("nic0"))
				if d.src != pseudo6 || d.dst != farHost6 || d.srcMAC != nicMAC || d.dstMAC != routerMAC || !d.valid {
					t.Errorf("%+v", d)
				}
				if got, want := []byte(d.payload), frame[packet.EthHeaderLen:]; !bytes.Equal(got, want) {
					t.Errorf("it quotes\n%x, but the client sent\n%x", got, want)
				}
			})
		})
	}
}

// Row F6 in IPv6: errors about no flow, with a wrong checksum, or that quote IPv4.
func TestIPv6ErrorsAboutNothing(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		alias := r.open6(farHost6, 4000)
		r.put("vnic-A", fromA6(alias, 80, 4000).tcp("A", "x"))
		mine := r.one("nic0")
		e := in6(farHost6, 0, 0)
		damaged := e.icmpErrorAbout(packet.ICMPv6PacketTooBig, mine, 1000)
		damaged[len(damaged)-1] ^= 1
		for i, frame := range [][]byte{
			damaged,
			e.icmpErrorAbout(packet.ICMPv6PacketTooBig, mine, ipv6HeaderLen+7),
			e.icmpErrorAbout(packet.ICMPv6PacketTooBig, mine, 0),
		} {
			r.put("nic0", frame)
			if n := r.drops("nic0", "malformed"); n != uint64(i+1) {
				t.Errorf("error %d: %d counted as malformed", i, n)
			}
		}
		other := ends{nicMAC, routerMAC, pseudo6, farHost6, 80, 4001}.tcp("A", "")
		r.put("nic0", e.icmpErrorAbout(packet.ICMPv6PacketTooBig, other, 1000))
		r.open(farHost, 4000)
		r.got("vnic-A")
		ofIPv4 := ends{nicMAC, routerMAC, pseudo, farHost, 80, 4000}.tcp("A", "")
		r.put("nic0", e.icmpErrorAbout(packet.ICMPv6PacketTooBig, ofIPv4, 1000))
		if n := r.drops("nic0", "no_flow"); n != 2 {
			t.Errorf("%d dropped as of no flow, want 2", n)
		}
		r.put("nic0", e.icmpErrorAbout(5, mine, 1000))
		if n := r.drops("nic0", "icmp"); n != 1 {
			t.Errorf("%d dropped for their type, want 1", n)
		}
		r.silent("nic0", "vnic-A", "vnic-B")
	})
}

// Row F10+ in IPv6: a client's UDP flow ends when the server says that its port is closed.
func TestIPv6ClosedPortEndsAFlow(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", in6(farHost6, 4000, 53).udp("question"))
		arrived := r.one("vnic-A")
		e := fromA6(decode(arrived).src, 0, 0)
		r.put("vnic-A", e.icmpv6(packet.ICMPv6Unreachable, packet.ICMPv6AddressUnreachable, 0, arrived[packet.EthHeaderLen:]))
		if n := r.plane.Status().Flows; n != 1 {
			t.Fatalf("%d flows, want 1", n)
		}
		r.put("vnic-A", e.icmpv6(packet.ICMPv6Unreachable, packet.ICMPv6PortUnreachable, 0, arrived[packet.EthHeaderLen:]))
		if n := r.plane.Status().Flows; n != 0 {
			t.Errorf("%d flows, want none", n)
		}
	})
}

// Row F8 in IPv6: the sender of a packet that does not fit the NIC's link is told the MTU,
// from the alias of the flow's other host, in at most 1280 bytes.
func TestIPv6PacketTooBig(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		alias := r.open6(farHost6, 4000)
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, MTU: 1400})
		time.Sleep(5 * time.Second)
		r.got("nic0") // announcements
		big := fromA6(alias, 80, 4000).tcp("A", strings.Repeat("x", 1381-ipv6HeaderLen))
		r.put("vnic-A", big)
		raw := r.one("vnic-A")
		d := decode(raw)
		if d.src != alias || d.dst != serverA6 || d.dstMAC != vnicAMAC || d.icmp != packet.ICMPv6PacketTooBig || d.code != 0 || d.value != 1400 || !d.valid {
			t.Errorf("the answer is %+v", d)
		}
		if len(raw) != packet.EthHeaderLen+1280 || !bytes.HasPrefix(big[packet.EthHeaderLen:], []byte(d.payload)) {
			t.Errorf("it has %d bytes", len(raw))
		}
		if n := r.drops("vnic-A", "too_big"); n != 1 {
			t.Errorf("%d counted, want 1", n)
		}
		r.putSuper("vnic-A", fromA6(alias, 80, 4000).tcp("A", strings.Repeat("x", 3000)), 4, 1340)
		r.one("nic0")
		r.putSuper("vnic-A", fromA6(alias, 80, 4000).tcp("A", strings.Repeat("x", 3000)), 4, 1341)
		r.silent("nic0")
		r.one("vnic-A")
	})
}

// Row F11 in IPv6: how refusals are told, and to whom they are not.
func TestIPv6Refusals(t *testing.T) {
	in := in6(farHost6, 4000, 81)
	echo := in6(farHost6, 4000, 0)
	for _, tc := range []struct {
		name   string
		frame  []byte
		reason string
		proto  config.Protocol // 0: there is no answer
		icmp   [2]uint8
	}{
		{"TCP", in.tcp("S", ""), "no_segment", config.TCP, [2]uint8{}},
		{"UDP", in.udp("x"), "no_segment", config.ICMP, [2]uint8{packet.ICMPv6Unreachable, packet.ICMPv6PortUnreachable}},
		{"echo", echo.echo("x"), "no_segment", config.ICMP, [2]uint8{packet.ICMPv6Unreachable, packet.ICMPv6AddressUnreachable}},
		{"a RST", in.tcp("R", ""), "no_flow", 0, [2]uint8{}},
		{"an echo reply", in6(farHost6, 0, 4000).echo("x"), "no_flow", 0, [2]uint8{}},
		{"ESP", withNext(in.udp("x"), 50), "protocol", 0, [2]uint8{}},
		{"no next header", withNext(in.udp("x"), 59), "protocol", 0, [2]uint8{}},
		{"ICMP of IPv4", withNext(in.udp("x"), 1), "protocol", 0, [2]uint8{}},
		{"a redirect", in.icmpv6(137, 0, 0, make([]byte, 40)), "", 0, [2]uint8{}},
		{"router renumbering", in.icmpv6(138, 0, 0, make([]byte, 40)), "icmp", 0, [2]uint8{}},
		{"from a mapped address", withSource(in.tcp("S", ""), "::ffff:10.0.0.1"), "bad_source", 0, [2]uint8{}},
		{"from an IPv4-compatible address", withSource(in.tcp("S", ""), "::10.0.0.1"), "bad_source", 0, [2]uint8{}},
		{"from nowhere", withSource(in.udp("x"), "::"), "bad_source", 0, [2]uint8{}},
		{"from a group", withSource(in.udp("x"), "ff02::1"), "bad_source", 0, [2]uint8{}},
		{"from a segment", withSource(in.udp("x"), routerOnA6), "bad_source", 0, [2]uint8{}},
		{"nine headers", withHeaders(in.udp("x"), slices.Repeat([]extension{optionsOf(headerOptions, 8)}, 9)...), "malformed", 0, [2]uint8{}},
		{"600 bytes of headers", withHeaders(in.udp("x"), optionsOf(headerOptions, 304), optionsOf(headerOptions, 296)), "malformed", 0, [2]uint8{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := dualConfig()
			cfg.Bridges["lan"].LBPolicy = nil
			cfg.Bridges["lan"].Steer = []config.Rule{{Segment: "a", Clients: prefixes("2001:db8:8::/48")}}
			inIPv6(t, cfg, func(t *testing.T, r *rig) {
				r.put("nic0", tc.frame)
				if n := r.drops("nic0", tc.reason); tc.reason != "" && n != 1 {
					t.Errorf("%d counted as %s, want 1 (%v)", n, tc.reason, r.plane.Status().Bridges["lan"].Drops)
				}
				r.silent("vnic-A", "vnic-B")
				if tc.proto == 0 {
					r.silent("nic0")
					return
				}
				d := decode(r.one("nic0"))
				if d.src != pseudo6 || d.dst != farHost6 || d.srcMAC != nicMAC || d.dstMAC != routerMAC || d.proto != tc.proto || !d.valid {
					t.Errorf("the answer is %+v", d)
				}
				if d.proto == config.TCP && d.flags&packet.TCPRST == 0 || d.proto == config.ICMP && [2]uint8{d.icmp, d.code} != tc.icmp {
					t.Errorf("the answer is %+v", d)
				}
				if d.proto == config.ICMP && d.payload != string(tc.frame[packet.EthHeaderLen:]) {
					t.Errorf("it quotes %x", d.payload)
				}
			})
		})
	}
}

// withNext gives the packet of a frame another next header.
func withNext(raw []byte, next byte) []byte {
	raw[packet.EthHeaderLen+6] = next
	return raw
}

// withSource gives the packet of a frame another source.
func withSource(raw []byte, src string) []byte {
	a := netip.MustParseAddr(src).As16()
	copy(raw[packet.EthHeaderLen+8:], a[:])
	return raw
}

// Row F13: no routing header passes. If it would have the packet sent on, its sender is told.
func TestRoutingHeaders(t *testing.T) {
	route := func(kind, left byte) extension { return extension{43, []byte{0, kind, left, 0, 0, 0, 0}} }
	for _, tc := range []struct {
		name    string
		chain   []extension
		pointer uint32 // 0: there is no answer
	}{
		{"type 0", []extension{route(0, 1)}, 42},
		{"type 0, at its end", []extension{route(0, 0)}, 42},
		{"type 2", []extension{route(2, 1)}, 42},
		{"type 2, at its end", []extension{route(2, 0)}, 0},
		{"segment routing behind options", []extension{optionsOf(headerHop, 8), route(4, 2)}, 50},
		{"segment routing, at its end", []extension{route(4, 0)}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
				for device, e := range map[string]ends{"nic0": in6(farHost6, 4000, 80), "vnic-A": fromA6(routerOnA6, 4000, 80)} {
					r.put(device, withHeaders(e.tcp("S", ""), tc.chain...))
					if n := r.drops(device, "protocol"); n != 1 {
						t.Errorf("%s: %d counted, want 1", device, n)
					}
					if tc.pointer == 0 {
						r.silent("nic0", "vnic-A", "vnic-B")
						continue
					}
					d := decode(r.one(device))
					if d.src != e.dst || d.dst != e.src || d.icmp != packet.ICMPv6ParameterProblem || d.code != 0 || d.value != tc.pointer || !d.valid {
						t.Errorf("%s: the answer is %+v", device, d)
					}
				}
			})
		})
	}
}

// Row F13: answers to routing headers are rate-limited as refusals are.
func TestRoutingHeadersAreNotAFlood(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		frame := withHeaders(in6(farHost6, 4000, 80).tcp("S", ""), extension{43, []byte{0, 0, 1, 0, 0, 0, 0}})
		for range 2 * userspace.RefusalBurst {
			r.put("nic0", frame)
		}
		if n := len(r.got("nic0")); n != userspace.RefusalBurst {
			t.Errorf("%d answers in no time, want %d", n, userspace.RefusalBurst)
		}
	})
}

// Row F10 in IPv6: a segment that is removed resets its connections on both sides.
func TestIPv6Resets(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		alias := r.open6(farHost6, 4000)
		segment := r.machine.devices["vnic-A"]
		next := dualConfig()
		delete(next.Segments, "a")
		next.Bridges["lan"].LBPolicy.Segments = []string{"b"}
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		outside, inside := resets(r.got("nic0")), resets(segment.take())
		if len(outside) == 0 || len(inside) == 0 {
			t.Fatalf("%d and %d resets", len(outside), len(inside))
		}
		if d := decode(outside[0]); d.src != pseudo6 || d.dst != farHost6 || d.dstMAC != routerMAC || !d.valid {
			t.Errorf("outside: %+v", d)
		}
		if d := decode(inside[0]); d.src != alias || d.dst != serverA6 || d.dstMAC != vnicAMAC || !d.valid {
			t.Errorf("inside: %+v", d)
		}
	})
}

// Row S2 in IPv6: only packets of the segment's own address leave its VNIC, and what a host
// says by itself stays inside.
func TestWhatLeavesASegmentInIPv6(t *testing.T) {
	cfg := dualConfig()
	cfg.Segments["a"].Egress = config.EgressAny
	inIPv6(t, cfg, func(t *testing.T, r *rig) {
		e := fromA6(routerOnA6, 4000, 80)
		group := e
		group.dst, group.dstMAC = "ff02::2", mustMAC("33:33:00:00:00:02")
		unicastGroup := fromA6("ff02::2", 4000, 80)
		for reason, frames := range map[string][][]byte{
			"bad_source":             {withSource(e.udp("x"), "fd00:50::7"), withSource(e.udp("x"), "fe80::7"), withSource(e.udp("x"), "::ffff:192.168.50.1")},
			"broadcast_or_multicast": {group.udp("x"), group.icmpv6(133, 0, 0, nil), withHeaders(group.icmpv6(143, 0, 0, make([]byte, 20)), optionsOf(headerHop, 8))},
			"icmp":                   {e.icmpv6(133, 0, 0, nil), e.icmpv6(135, 0, 0, make([]byte, 16)), e.icmpv6(137, 0, 0, make([]byte, 32))},
			"egress_denied":          {unicastGroup.udp("x"), unicastGroup.tcp("A", "x")},
		} {
			r.put("vnic-A", frames...)
			if n := r.drops("vnic-A", reason); n != uint64(len(frames)) {
				t.Errorf("%d counted as %s, want %d", n, reason, len(frames))
			}
		}
		time.Sleep(2 * userspace.OrphanTime)
		for _, f := range r.got("nic0") {
			if decode(f).src == serverA6 {
				t.Errorf("%x left", f)
			}
		}
		r.silent("vnic-A", "vnic-B")
	})
}

// Rows F5, F5+ in IPv6: a client without a flow gets a RST at once, a server after a while.
func TestIPv6WithoutAFlow(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", in6(farHost6, 4000, 80).tcp("A", "x"))
		d := decode(r.one("nic0"))
		if d.src != pseudo6 || d.dst != farHost6 || d.sport != 80 || d.dport != 4000 || d.flags&packet.TCPRST == 0 || !d.valid {
			t.Errorf("the client gets %+v", d)
		}
		const alias = "fd00:50::8123:4567:89ab:cdef"
		r.put("vnic-A", fromA6(alias, 80, 4000).tcp("A", "x"))
		r.silent("vnic-A")
		time.Sleep(userspace.OrphanTime + 2*time.Second)
		d = decode(r.one("vnic-A"))
		if d.src != alias || d.dst != serverA6 || d.sport != 4000 || d.dport != 80 || d.flags&packet.TCPRST == 0 || !d.valid {
			t.Errorf("the server gets %+v", d)
		}
	})
}

// Row F5+ in IPv6: a server's packet opens its flow again if its destination tells the client.
func TestIPv6IsPickedUp(t *testing.T) {
	cfg := dualConfig()
	cfg.Segments["a"].ClientIP = config.Preserve
	cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: config.PolicyIPHash, Segments: []string{"a"}}
	inIPv6(t, cfg, func(t *testing.T, r *rig) {
		r.put("vnic-A", fromA6(farHost6, 80, 4000).tcp("A", "x"))
		if d := decode(r.one("nic0")); d.src != pseudo6 || d.dst != farHost6 || d.sport != 80 || d.dport != 4000 || !d.valid {
			t.Errorf("outwards: %+v", d)
		}
		r.put("nic0", in6(farHost6, 4000, 80).tcp("A", "y"))
		if d := decode(r.one("vnic-A")); d.src != farHost6 || d.dst != serverA6 || !d.valid {
			t.Errorf("inwards: %+v", d)
		}
		if n := r.plane.Status().Flows; n != 1 {
			t.Errorf("%d flows, want 1", n)
		}
	})
}
