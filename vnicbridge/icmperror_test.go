package vnicbridge

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// icmpErrorAbout builds an ICMP error that quotes the first bytes of a packet.
func (e ends) icmpErrorAbout(kind uint8, about []byte, quoted int) []byte {
	quote := about[packet.EthHeaderLen:]
	if strings.Contains(e.dst, ":") {
		return e.icmpv6(kind, 1, 1400, quote[:min(quoted, len(quote))])
	}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 1), Seq: 1400}
	return e.build(e.ip(layers.IPProtocolICMPv4), icmp, gopacket.Payload(quote[:min(quoted, len(quote))]))
}

// quoteOf decodes the packet that an ICMP error quotes, as far as it goes.
func quoteOf(t *testing.T, raw []byte) (src, dst string, sport, dport uint16) {
	t.Helper()
	quote := raw[packet.EthHeaderLen+packet.IPv4MinLen+packet.ICMPHeaderLen:]
	if plainSum(quote[:packet.IPv4MinLen]) != 0xffff {
		t.Error("the quoted header's checksum is wrong")
	}
	return packet.AddrFrom4(quote[12:]).Netip().String(), packet.AddrFrom4(quote[16:]).Netip().String(),
		binary.BigEndian.Uint16(quote[packet.IPv4MinLen:]), binary.BigEndian.Uint16(quote[packet.IPv4MinLen+2:])
}

// Row F6, inwards: an error about what a segment sent reaches the segment, with
// the quoted packet as the segment sent it, also when only 8 bytes of its
// transport are quoted; it neither refreshes nor ends the flow.
func TestICMPErrorsInwards(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		alias := r.open(farHost, 4000)
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("A", "data of the answer"))
		sent := r.one("nic0")
		var all [][]byte
		for _, quoted := range []int{packet.IPv4MinLen + 8, packet.IPv4MinLen + 20, 576} {
			for _, kind := range []uint8{packet.ICMPUnreachable, packet.ICMPTimeExceeded, packet.ICMPParameterProblem} {
				about := fmt.Sprintf("type %d, %d bytes", kind, quoted)
				all = append(all, fromRouter(farHost, 0, 0).icmpErrorAbout(kind, sent, quoted))
				r.put("nic0", all[len(all)-1])
				raw := r.one("vnic-A")
				d := decode(raw)
				if d.src != alias || d.dst != serverA || d.icmp != kind || !d.valid {
					t.Errorf("%s: %+v", about, d)
				}
				if src, dst, sport, dport := quoteOf(t, raw); src != serverA || dst != alias || sport != 80 || dport != 4000 {
					t.Errorf("%s: quotes %s:%d to %s:%d", about, src, sport, dst, dport)
				}
				if quoted == 576 && !quoteIsValid(raw) {
					t.Errorf("%s: the quoted transport checksum is wrong", about)
				}
				if r.plane.Status().Flows != 1 {
					t.Fatalf("%s: an error ended the flow", about)
				}
			}
		}
		time.Sleep(flow.IdleTimes[flow.ClassEstablished] - time.Minute)
		r.put("nic0", all...)
		time.Sleep(flow.IdleTimes[flow.ClassEstablished] / 4)
		if r.plane.Status().Flows != 0 {
			t.Error("an error refreshed the flow")
		}
	})
}

// quoteIsValid checks the checksum of a whole quoted TCP or UDP packet.
func quoteIsValid(raw []byte) bool {
	quote := raw[packet.EthHeaderLen+packet.IPv4MinLen+packet.ICMPHeaderLen:]
	return decode(append(make([]byte, 12), append([]byte{8, 0}, quote...)...)).valid
}

// Row F6, outwards: an error that a segment sends reaches the client, in the name
// of the pseudo address.
func TestICMPErrorsOutwards(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", fromRouter(farHost, 4000, 53).udp("question"))
		arrived := r.one("vnic-A")
		alias := decode(arrived).src
		r.put("vnic-A", fromA(alias, 0, 0).icmpErrorAbout(packet.ICMPUnreachable, arrived, 576))
		raw := r.one("nic0")
		d := decode(raw)
		if d.src != pseudo || d.dst != farHost || d.srcMAC != nicMAC || d.dstMAC != routerMAC || !d.valid {
			t.Errorf("%+v", d)
		}
		if src, dst, sport, dport := quoteOf(t, raw); src != farHost || dst != pseudo || sport != 4000 || dport != 53 {
			t.Errorf("quotes %s:%d to %s:%d", src, sport, dst, dport)
		}
		if !quoteIsValid(raw) {
			t.Error("the quoted transport checksum is wrong")
		}
	})
}

// Row F6: errors about no flow, and errors that quote nonsense, are dropped.
func TestICMPErrorsAboutNothing(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(farHost, 4000)
		other := ends{nicMAC, routerMAC, pseudo, farHost, 80, 4001}.tcp("A", "")
		r.put("nic0", fromRouter(router, 0, 0).icmpErrorAbout(packet.ICMPUnreachable, other, 576))
		r.put("vnic-A", fromA(routerOnA, 0, 0).icmpErrorAbout(packet.ICMPUnreachable, other, 576))
		if in, out := r.drops("nic0", "no_flow"), r.drops("vnic-A", "no_flow"); in != 1 || out != 1 {
			t.Errorf("%d and %d dropped as of no flow, want 1 each", in, out)
		}
		mine := ends{nicMAC, routerMAC, pseudo, farHost, 80, 4000}.tcp("A", "")
		r.put("nic0", fromRouter(router, 0, 0).icmpErrorAbout(packet.ICMPUnreachable, mine, packet.IPv4MinLen+7))
		if n := r.drops("nic0", "malformed"); n != 1 {
			t.Errorf("%d dropped as malformed, want 1", n)
		}
		// A redirect (type 5) is no error about a flow.
		r.put("nic0", fromRouter(router, 0, 0).icmpErrorAbout(5, mine, 576))
		r.silent("nic0", "vnic-A", "vnic-B")
	})
}

// Row F8: a packet that does not fit the NIC's link is answered with the size that
// does; a super-packet, which is cut up later, is not.
func TestFragmentationNeeded(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(router, 4000)
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, MTU: 600})
		big := fromA(routerOnA, 80, 4000).tcp("A", string(make([]byte, 800)))
		r.put("vnic-A", big)
		r.put("vnic-A", big)
		answers := r.got("vnic-A")
		if len(answers) != 2 || len(r.got("nic0")) != 0 {
			t.Fatalf("%d answers", len(answers))
		}
		d := decode(answers[0])
		icmp := answers[0][packet.EthHeaderLen+packet.IPv4MinLen:]
		if d.src != routerOnA || d.dst != serverA || d.dstMAC != vnicAMAC || icmp[0] != packet.ICMPUnreachable || icmp[1] != 4 || !d.valid {
			t.Errorf("the answer is %+v", d)
		}
		if mtu := binary.BigEndian.Uint16(icmp[6:]); mtu != 600 {
			t.Errorf("the answer says %d, want 600", mtu)
		}
		if n := r.drops("vnic-A", "too_big"); n != 2 {
			t.Errorf("%d counted, want 2", n)
		}
		if mtu := r.machine.devices["vnic-A"].settings.MTU; mtu != 600 {
			t.Errorf("the VNIC's MTU is %d, want that of the NIC", mtu)
		}
	})
}

// Row F8: a super-packet passes if the packets that a device cuts it into fit the link.
// Who makes it says how large they are.
func TestSuperPackets(t *testing.T) {
	const gsoTCP, gsoUFO, gsoUSO = 1, 3, 5 // VIRTIO_NET_HDR_GSO_*
	tcp := fromA(routerOnA, 80, 4000).tcp("A", string(make([]byte, 3000)))
	udp := fromA(routerOnA, 53, 4000).udp(string(make([]byte, 3000)))
	echo := fromA(routerOnA, 7, 0).echo(string(make([]byte, 3000)))
	small := fromA(routerOnA, 80, 4000).tcp("A", string(make([]byte, 800)))
	for _, tc := range []struct {
		name    string
		frame   []byte
		gsoType byte
		gsoSize int
		passes  bool
	}{
		{"TCP", tcp, gsoTCP, 1460, true},
		{"TCP, one byte too many", tcp, gsoTCP, 1461, false},
		{"TCP in pieces of 2,000 bytes", tcp, gsoTCP, 2000, false},
		{"TCP in pieces of 8,000 bytes", tcp, gsoTCP, 8000, false},
		{"TCP in pieces of 65,535 bytes", tcp, gsoTCP, 65535, false},
		{"TCP in pieces of no size", tcp, gsoTCP, 0, false},
		{"TCP that congestion marks", tcp, 0x80 | gsoTCP, 8000, false},
		{"TCP that is small anyway", small, gsoTCP, 8000, true},
		{"UDP", udp, gsoUSO, 1472, true},
		{"UDP, one byte too many", udp, gsoUSO, 1473, false},
		{"UDP to be fragmented", udp, gsoUFO, 1472, true},
		{"UDP in fragments of 8,000 bytes", udp, gsoUFO, 8000, false},
		{"an echo", echo, gsoTCP, 1000, false},
		{"no super-packet", tcp, packet.GSONone, 1000, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.open(router, 4000)
				r.put("nic0", fromRouter(router, 4000, 53).udp("question"))
				r.got("vnic-A")
				r.putSuper("vnic-A", tc.frame, tc.gsoType, tc.gsoSize)
				if n := len(r.got("nic0")); (n == 1) != tc.passes {
					t.Errorf("the NIC sent %d", n)
				}
				answers := r.got("vnic-A")
				if tc.passes != (len(answers) == 0) {
					t.Fatalf("%d answers", len(answers))
				}
				if n := r.drops("vnic-A", "too_big"); (n == 0) != tc.passes {
					t.Errorf("%d counted", n)
				}
				if !tc.passes {
					if icmp := answers[0][packet.EthHeaderLen+packet.IPv4MinLen:]; icmp[0] != packet.ICMPUnreachable || icmp[1] != 4 {
						t.Errorf("the answer is type %d, code %d", icmp[0], icmp[1])
					}
				}
				// Into a segment anything goes: its stack takes what a device gathered.
				r.putSuper("nic0", fromRouter(router, 4000, 80).tcp("A", string(make([]byte, 3000))), gsoTCP, 2000)
				r.one("vnic-A")
			})
		})
	}
}
