package vnicbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// Row S1: only unicast frames to the NIC's own MAC, untagged, for the pseudo
// address enter.
func TestWhatEntersFromTheNIC(t *testing.T) {
	good := fromRouter(router, 4000, 80)
	with := func(change func(*ends)) []byte {
		e := good
		change(&e)
		return e.tcp("S", "")
	}
	tag := func(etherType uint16) []byte {
		raw := good.tcp("S", "")
		tagged := append(append([]byte(nil), raw[:12]...), byte(etherType>>8), byte(etherType), 0, 5)
		return append(tagged, raw[12:]...)
	}
	for _, tc := range []struct {
		name   string
		frame  []byte
		reason string
	}{
		{"broadcast MAC", with(func(e *ends) { e.dstMAC = config.BroadcastMAC }), "broadcast_or_multicast"},
		{"multicast MAC", with(func(e *ends) { e.dstMAC = mustMAC("01:00:5e:00:00:01") }), "broadcast_or_multicast"},
		{"another host's MAC", with(func(e *ends) { e.dstMAC = hostMAC }), "not_for_us"},
		{"a VNIC's MAC", with(func(e *ends) { e.dstMAC = vnicAMAC }), "not_for_us"},
		{"another address", with(func(e *ends) { e.dst = otherHost }), "not_for_us"},
		{"a VNIC's address", with(func(e *ends) { e.dst = serverA }), "not_for_us"},
		{"an alias", with(func(e *ends) { e.dst = routerOnA }), "not_for_us"},
		{"broadcast address", with(func(e *ends) { e.dst = "192.168.1.255" }), "not_for_us"},
		{"VLAN tag", tag(packet.EtherVLAN), "vlan"},
		{"double VLAN tag", tag(packet.EtherQinQ), "vlan"},
		{"IPv6", buildIPv6(), "ether_type"},
		{"from the pseudo address", with(func(e *ends) { e.src = pseudo }), "bad_source"},
		{"from a segment", with(func(e *ends) { e.src = serverA }), "bad_source"},
		{"from an alias", with(func(e *ends) { e.src = routerOnB }), "bad_source"},
		{"from the host", with(func(e *ends) { e.src = "10.9.8.7" }), "bad_source"},
		{"from the host's broadcast address", with(func(e *ends) { e.src = "10.9.8.255" }), "bad_source"},
		{"from loopback", with(func(e *ends) { e.src = "127.0.0.1" }), "bad_source"},
		{"from multicast", with(func(e *ends) { e.src = "224.0.0.1" }), "bad_source"},
		{"from broadcast", with(func(e *ends) { e.src = "255.255.255.255" }), "bad_source"},
		{"from the link's broadcast", with(func(e *ends) { e.src = "192.168.1.255" }), "bad_source"},
		{"from 0/8", with(func(e *ends) { e.src = "0.1.2.3" }), "bad_source"},
		{"from nowhere", with(func(e *ends) { e.src = "0.0.0.0" }), "bad_source"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.machine.prefixes = []host.Prefix{{Device: "eth9", Prefix: netip.MustParsePrefix("10.9.8.7/24")}}
				r.machine.hints <- struct{}{}
				time.Sleep(2 * maintainInterval)
				r.got("nic0") // ARP
				r.put("nic0", tc.frame)
				r.silent("nic0", "vnic-A", "vnic-B")
				if n := r.drops("nic0", tc.reason) + r.leftToHost; n != 1 {
					t.Errorf("%d counted as %s, want 1 (%v)", n, tc.reason, r.plane.Status().Bridges["lan"].Drops)
				}
				r.put("nic0", good.tcp("S", ""))
				r.one("vnic-A") // the good one enters still
			})
		})
	}
}

// withTags puts VLAN tags into a frame, the outermost first.
func withTags(raw []byte, tags ...uint32) []byte {
	out := slices.Clone(raw[:12])
	for _, tag := range tags {
		out = binary.BigEndian.AppendUint32(out, tag)
	}
	return append(out, raw[12:]...)
}

// Row A1+: a frame with a priority tag in its bytes is an untagged one, at the NIC and
// at a VNIC; what leaves has none.
func TestPriorityTags(t *testing.T) {
	for _, tag := range []uint32{packet.EtherVLAN << 16, packet.EtherVLAN<<16 | 5<<13, packet.EtherQinQ << 16, packet.EtherQinQ<<16 | 1<<12} {
		t.Run(fmt.Sprintf("%08x", tag), func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.put("nic0", withTags(arp(true, hostMAC, otherHost, config.MAC{}, pseudo), tag))
				answer := asFrame(r.one("nic0"))
				if m, err := link.ParseARP(&answer); err != nil || m.SenderMAC != nicMAC || m.Target.Netip().String() != otherHost {
					t.Errorf("ARP is answered by %+v, %v", m, err)
				}
				r.put("nic0", withTags(fromRouter(router, 4000, 80).tcp("S", "in"), tag))
				if got, want := r.one("vnic-A"), decode(fromRouter(routerOnA, 4000, 80).tcp("S", "in")); decode(got).payload != want.payload || !decode(got).valid || decode(got).src != routerOnA {
					t.Errorf("on the VNIC: %+v", decode(got))
				}
				r.put("vnic-A", withTags(fromA(routerOnA, 80, 4000).tcp("SA", "out"), tag))
				if d := decode(r.one("nic0")); d.payload != "out" || !d.valid || d.dst != router {
					t.Errorf("on the NIC: %+v", d)
				}
				// A tag behind it is another network's.
				for _, nested := range [][]uint32{{tag, packet.EtherVLAN<<16 | 5}, {tag, packet.EtherVLAN << 16}, {packet.EtherVLAN<<16 | 5, tag}, {packet.EtherVLAN<<16 | 5}} {
					r.put("nic0", withTags(fromRouter(router, 4000, 80).tcp("A", ""), nested...))
					r.put("vnic-A", withTags(fromA(routerOnA, 80, 4000).tcp("A", ""), nested...))
					r.silent("nic0", "vnic-A", "vnic-B")
				}
				if in, out := r.drops("nic0", "vlan")+r.leftToHost, r.drops("vnic-A", "vlan"); in != 4 || out != 4 {
					t.Errorf("%d and %d frames of other networks counted, want 4", in, out)
				}
				for n := range packet.EthHeaderLen + packet.VLANTagLen { // cut off anywhere
					if n >= packet.EthHeaderLen {
						r.put("nic0", withTags(fromRouter(router, 4000, 80).tcp("A", ""), tag)[:n])
					}
				}
				r.silent("nic0", "vnic-A", "vnic-B")
			})
		})
	}
}

// Row A1+: where a checksum is to be finished moves with the packet when a tag is taken
// out before it.
func TestUntagMovesTheChecksum(t *testing.T) {
	raw := withTags(fromRouter(router, 4000, 80).udp("x"), packet.EtherVLAN<<16)
	f := asFrame(raw)
	f.Data[0] = packet.VNetNeedsCsum
	binary.NativeEndian.PutUint16(f.Data[6:], packet.EthHeaderLen+packet.VLANTagLen+packet.IPv4MinLen)
	if !f.Untag() || binary.NativeEndian.Uint16(f.Data[6:]) != packet.EthHeaderLen+packet.IPv4MinLen || !f.ChecksumUnfinished() {
		t.Errorf("after it was taken out: %x", f.Data[:packet.VNetHeaderLen])
	}
	if want := fromRouter(router, 4000, 80).udp("x"); !bytes.Equal(f.Eth(), want) {
		t.Errorf("the frame is %x, want %x", f.Eth(), want)
	}
}

// Row S1: a VLAN tag that the kernel took out of the frame counts as well.
func TestAHiddenVLANTag(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		raw := fromRouter(router, 4000, 80).tcp("S", "")
		r.machine.devices["nic0"].in <- packet.Frame{Data: append(make([]byte, packet.VNetHeaderLen), raw...), Tagged: true}
		r.put("nic0")
		r.silent("nic0", "vnic-A", "vnic-B")
		if n := r.drops("nic0", "vlan"); n != 1 {
			t.Errorf("%d counted, want 1", n)
		}
	})
}

func buildIPv6() []byte {
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolNoNextHeader, HopLimit: 1,
		SrcIP: netip.MustParseAddr("fe80::1").AsSlice(), DstIP: netip.MustParseAddr("ff02::1").AsSlice()}
	f := packet.BuildFrame(routerMAC, nicMAC, layers.EthernetTypeIPv6, ip, gopacket.Payload("chatter"))
	return f.Eth()
}

// Row S2: only packets of the segment's own address leave its VNIC; what a host
// says by itself stays inside.
func TestWhatLeavesASegment(t *testing.T) {
	good := fromA(routerOnA, 7, 0)
	with := func(change func(*ends)) []byte {
		e := good
		change(&e)
		return e.echo("x")
	}
	for _, tc := range []struct {
		name   string
		frame  []byte
		reason string
	}{
		{"another source", with(func(e *ends) { e.src = serverB }), "bad_source"},
		{"the pseudo address as source", with(func(e *ends) { e.src = pseudo }), "bad_source"},
		{"an alias as source", with(func(e *ends) { e.src = routerOnA }), "bad_source"},
		{"broadcast", with(func(e *ends) { e.dstMAC, e.dst = config.BroadcastMAC, "192.168.50.255" }), "broadcast_or_multicast"},
		{"multicast", with(func(e *ends) { e.dstMAC, e.dst = mustMAC("01:00:5e:00:00:fb"), "224.0.0.251" }), "broadcast_or_multicast"},
		{"to the world", with(func(e *ends) { e.dst = farHost }), "egress_denied"},
		{"to a host on the NIC's link", with(func(e *ends) { e.dst = router }), "egress_denied"},
		{"to another segment", with(func(e *ends) { e.dst = serverB }), "egress_denied"},
		{"to another segment's alias", with(func(e *ends) { e.dst = routerOnB }), "egress_denied"},
		{"to itself", with(func(e *ends) { e.dst = serverA }), "egress_denied"},
		{"an answer to nothing", fromA(routerOnA, 80, 4000).tcp("SA", ""), "no_flow"},
		{"from the middle of nothing", fromA(routerOnA, 80, 4000).tcp("A", "x"), "no_flow"},
		{"an echo that nobody asked for", fromA(routerOnA, 0, 7).echo("x"), "no_flow"},
		{"ARP", arp(true, vnicAMAC, serverA, config.MAC{}, routerOnA), "arp"},
		{"IPv6", buildIPv6(), "ether_type"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.put("vnic-A", tc.frame)
				r.silent("nic0", "vnic-A", "vnic-B")
				if n := r.drops("vnic-A", tc.reason); n != 1 {
					t.Errorf("%d counted as %s, want 1 (%v)", n, tc.reason, r.plane.Status().Segments["a"].Drops)
				}
			})
		})
	}
}

// Row S3: with two bridges, nothing goes from one's network to the other's, nor
// from one's network to a segment that only the other names.
func TestBridgesAreApart(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
	cfg.Bridges["lan2"] = &config.Bridge{
		NIC: "nic1", Addresses: prefixes("192.168.2.2/24"), Gateways: []netip.Addr{netip.MustParseAddr("192.168.2.1")},
		LBPolicy: &config.Policy{Policy: config.PolicyFirst, Segments: []string{"b"}},
	}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		lan2 := ends{hostMAC, nicMAC, "192.168.2.1", "192.168.2.2", 4000, 80}
		r.put("nic1", arp(false, hostMAC, "192.168.2.1", nicMAC, "192.168.2.2"))
		r.put("nic0", fromRouter(router, 4000, 80).tcp("S", ""))
		r.one("vnic-A")
		r.put("nic1", lan2.tcp("S", ""))
		r.one("vnic-B")
		r.silent("vnic-A", "nic0")

		// One's packets on the other's NIC.
		r.put("nic1", fromRouter(router, 4001, 80).tcp("S", ""))
		r.silent("vnic-A", "vnic-B")
		// Out of a segment, towards the other bridge's network.
		for _, dst := range []string{"192.168.2.1", "192.168.2.2", otherHost, pseudo} {
			r.put("vnic-A", fromA(dst, 7, 80).tcp("S", ""))
		}
		// The answer to a flow of the other segment, forged.
		r.put("vnic-A", fromA(routerOnB, 80, 4000).tcp("SA", ""))
		r.put("vnic-A", ends{vnicAMAC, routerMAC, serverB, routerOnB, 80, 4000}.tcp("SA", ""))
		r.silent("nic0", "nic1", "vnic-A", "vnic-B")
	})
}

// Row S5: every drop reason has a name of its own, and is explained where an
// administrator looks.
func TestDropReasonsAreExplained(t *testing.T) {
	page, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for reason := packet.Keep + 1; reason < packet.DropReasonCount; reason++ {
		if reason.String() == "" || names[reason.String()] {
			t.Errorf("reason %d has no name of its own: %q", reason, reason)
		}
		names[reason.String()] = true
		if !strings.Contains(string(page), "| `"+reason.String()+"` |") {
			t.Errorf("docs/troubleshooting.md does not explain %s", reason)
		}
	}
}

// Row S5: every frame that comes in
// is either carried, answered or counted.
func TestEveryDropIsCounted(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		before := r.plane.Status()
		frames := hostileFrames(500)
		r.put("nic0", frames...)
		r.put("vnic-A", frames...)
		carried := uint64(len(r.got("vnic-A")) + len(r.got("vnic-B")) + len(r.got("nic0")))
		time.Sleep(userspace.FragmentTime + time.Second) // fragments without a first one are held
		after := r.plane.Status()
		in := r.leftToHost + after.Bridges["lan"].Packets.From - before.Bridges["lan"].Packets.From + after.Segments["a"].Packets.From
		dropped := r.leftToHost
		for _, drops := range []map[string]uint64{after.Bridges["lan"].Drops, after.Segments["a"].Drops} {
			for _, n := range drops {
				dropped += n
			}
		}
		if in != uint64(2*len(frames)) {
			t.Errorf("%d frames came in, want %d", in, 2*len(frames))
		}
		if carried+dropped < in {
			t.Errorf("%d frames in, %d carried or answered, %d dropped: some are lost uncounted", in, carried, dropped)
		}
	})
}
