package vnicbridge

import (
	"bytes"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// withProtocol gives the packet of a frame another protocol.
func withProtocol(proto byte, raw []byte) []byte {
	raw = bytes.Clone(raw)
	raw[packet.EthHeaderLen+9] = proto
	setFragment(raw, 1, 0)
	return raw
}

// Row F11: a protocol of which no flows are made is refused as a host refuses it: not
// behind the first fragment, and not where nobody answers; to a segment, where it may
// send to.
func TestProtocolsAreRefused(t *testing.T) {
	const gre = 47
	fragment := func(bits uint16, e ends) []byte {
		raw := withProtocol(gre, e.udp("12345678"))
		setFragment(raw, 1, bits)
		return raw
	}
	in := fromRouter(router, 4000, 53)
	from := func(source string) ends { e := in; e.src = source; return e }
	group := fromA("224.0.0.5", 1, 1)
	for _, tc := range []struct {
		name     string
		device   string
		frame    []byte
		reason   string
		answered bool
	}{
		{"a first fragment", "nic0", fragment(packet.IPMoreFragments, in), "protocol", true},
		{"a later fragment", "nic0", fragment(1, in), "protocol", false},
		{"from a segment", "nic0", withProtocol(gre, from(serverB).udp("x")), "bad_source", false},
		{"from broadcast", "nic0", withProtocol(gre, from("255.255.255.255").udp("x")), "bad_source", false},
		{"from multicast", "nic0", withProtocol(gre, from("224.0.0.1").udp("x")), "bad_source", false},
		{"a segment, to its gateway", "vnic-A", withProtocol(gre, fromA(routerOnA, 1, 1).udp("x")), "protocol", true},
		{"a segment, to the world", "vnic-A", withProtocol(gre, fromA(farHost, 1, 1).udp("x")), "protocol", false},
		{"a segment, to a group", "vnic-A", withProtocol(gre, group.udp("x")), "protocol", false},
		{"a segment, a later fragment", "vnic-A", fragment(1, fromA(routerOnA, 1, 1)), "protocol", false},
		{"an ICMP timestamp", "nic0", fromRouter(router, 0, 0).icmpErrorAbout(13, in.udp("x"), 12), "icmp", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.put(tc.device, tc.frame)
				if n := r.drops(tc.device, tc.reason); n != 1 {
					t.Errorf("%d counted as %s, want 1", n, tc.reason)
				}
				if !tc.answered {
					r.silent("nic0", "vnic-A", "vnic-B")
					return
				}
				answer := decode(r.one(tc.device))
				asked := decode(tc.frame)
				if answerKind(answer) != "protocol unreachable" || answer.src != asked.dst || answer.dst != asked.src || !answer.valid {
					t.Errorf("the answer is %+v", answer)
				}
			})
		})
	}
}

// Row F11: refusals, of protocols too, are bounded for each device by itself, and keep no
// sender from learning that a packet is too big.
func TestRefusalsLeaveRoom(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(router, 4000)
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, MTU: 600})
		r.got("nic0")
		for range 2 * userspace.RefusalBurst {
			r.put("nic0", withProtocol(47, fromRouter(farHost, 1, 1).udp("x")))
			r.put("vnic-A", withProtocol(47, fromA(routerOnA, 1, 1).udp("x")))
		}
		for _, device := range []string{"nic0", "vnic-A"} {
			if n := len(r.got(device)); n != userspace.RefusalBurst {
				t.Errorf("%s: %d refusals in no time, want %d", device, n, userspace.RefusalBurst)
			}
		}
		r.put("vnic-B", withProtocol(47, ends{vnicBMAC, routerMAC, serverB, routerOnB, 1, 1}.udp("x")))
		r.one("vnic-B")
		big := fromA(routerOnA, 80, 4000).tcp("A", string(make([]byte, 800)))
		for range 2 * userspace.RefusalBurst {
			r.put("vnic-A", big)
		}
		if n := len(r.got("vnic-A")); n != userspace.RefusalBurst {
			t.Errorf("%d times told that a packet is too big, want %d", n, userspace.RefusalBurst)
		}
	})
}

// Row A3: an answer to a segment carries the VNIC's MAC as destination, whatever source MAC the
// segment has used.
func TestAnswersGoToTheVNIC(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		ipv4, ipv6 := fromA(routerOnA, 1, 1), fromA6(routerOnA6, 1, 1)
		ipv4.srcMAC, ipv6.srcMAC = hostMAC, hostMAC
		for _, frame := range [][]byte{
			withProtocol(47, ipv4.udp("x")),
			withHeaders(ipv6.udp("x"), extension{43, []byte{0, 0, 1, 0, 0, 0, 0}}),
		} {
			r.put("vnic-A", frame)
			if d := decode(r.one("vnic-A")); d.dstMAC != vnicAMAC || !d.valid {
				t.Errorf("the answer is %+v", d)
			}
		}
	})
}
