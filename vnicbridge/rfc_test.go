package vnicbridge

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// RFC 5382 REQ-2: both ends may open a connection at once (RFC 9293 §3.5).
func TestSimultaneousOpen(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		out, in := fromA(routerOnA, 4000, 179), fromRouter(router, 179, 4000)
		for _, step := range []struct {
			device, arrives string
			frame           []byte
		}{
			{"vnic-A", "nic0", out.tcp("S", "")},
			{"nic0", "vnic-A", in.tcp("S", "")},
			{"vnic-A", "nic0", out.tcp("SA", "")},
			{"nic0", "vnic-A", in.tcp("SA", "")},
			{"vnic-A", "nic0", out.tcp("A", "")},
			{"nic0", "vnic-A", in.tcp("A", "")},
		} {
			r.put(step.device, step.frame)
			r.one(step.arrives)
		}
		time.Sleep(flow.IdleTimes[flow.ClassEstablished] - time.Minute)
		if n := r.plane.Status().Flows; n != 1 {
			t.Errorf("%d flows two hours later, want the one", n)
		}
	})
}

// RFC 4787 REQ-3, REQ-6, REQ-8 and REQ-12, and RFC 7857 §5, as far as a segment's own
// flows are a NAT's: its port is kept for whatever it sends to, beside another
// segment's of another protocol; only those hosts answer it; packets of either
// direction keep the flow, and an ICMP error does not end it.
func TestEgressMappings(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Egress, cfg.Segments["b"].Egress = config.EgressAny, config.EgressAny
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for _, host := range []string{farHost, "203.0.113.10"} {
			r.put("vnic-A", fromA(host, 1000, 53).udp("question"))
			if d := decode(r.one("nic0")); d.sport != 1000 {
				t.Errorf("to %s the segment's port is %d, want 1000", host, d.sport)
			}
		}
		r.put("vnic-B", ends{vnicBMAC, routerMAC, serverB, farHost, 1000, 53}.tcp("S", ""))
		if d := decode(r.one("nic0")); d.sport != 1000 {
			t.Errorf("the other segment's port over TCP is %d, want 1000", d.sport)
		}
		r.put("nic0", fromRouter(farHost, 54, 1000).udp("another port"))
		for _, f := range r.got("vnic-A") {
			if d := decode(f); d.src == farHost {
				t.Errorf("%+v got in, which nothing was sent to", d)
			}
		}
		step := flow.IdleTimes[flow.ClassUDP] - 10*time.Second
		time.Sleep(step)
		r.got("nic0") // ARP
		r.put("vnic-A", fromA(farHost, 1000, 53).udp("again"))
		sent := r.one("nic0")
		r.put("nic0", fromRouter(router, 0, 0).icmpErrorAbout(packet.ICMPUnreachable, sent, 576))
		r.one("vnic-A")
		for range 2 {
			time.Sleep(step)
			r.put("nic0", fromRouter(farHost, 53, 1000).udp("answer"))
			if d := decode(r.one("vnic-A")); d.src != farHost || d.dport != 1000 {
				t.Errorf("the answer is %+v", d)
			}
		}
	})
}

// RFC 5508 REQ-6: an error about a query neither refreshes nor ends its session.
func TestErrorsAboutQueries(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.put("vnic-A", fromA(routerOnA, 7, 0).echo("x"))
		sent := r.one("nic0")
		time.Sleep(flow.IdleTimes[flow.ClassICMP] - time.Second)
		r.put("nic0", fromRouter("198.51.100.1", 0, 0).icmpErrorAbout(packet.ICMPTimeExceeded, sent, 576))
		if d := decode(r.one("vnic-A")); d.icmp != packet.ICMPTimeExceeded || d.dst != serverA || d.src == routerOnA {
			t.Errorf("the error is %+v", d)
		}
		if n := r.plane.Status().Flows; n != 1 {
			t.Errorf("%d flows after the error, want 1", n)
		}
		time.Sleep(flow.IdleTimes[flow.ClassICMP] / flow.SweepsPerIdleTime * 2)
		if n := r.plane.Status().Flows; n != 0 {
			t.Error("the error has refreshed the session")
		}
	})
}

// RFC 5508 REQ-3: an ICMP error with a wrong checksum is dropped and counted; IP
// options in the packet that it quotes are passed over, and what follows the quote
// (RFC 4884) is left as it is.
func TestDamagedAndExtendedICMPErrors(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		alias := r.open(farHost, 4000)
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("A", "data"))
		sent := r.one("nic0")

		damaged := fromRouter(router, 0, 0).icmpErrorAbout(packet.ICMPUnreachable, sent, 576)
		damaged[len(damaged)-1] ^= 1
		r.put("nic0", damaged)
		r.silent("vnic-A", "vnic-B")
		if n := r.drops("nic0", "malformed"); n != 1 {
			t.Errorf("%d counted as malformed, want 1", n)
		}

		extension := []byte{0x20, 0, 0xdf, 0xff, 0, 8, 1, 1, 0xde, 0xad, 0xbe, 0xef}
		quote := slices.Concat(withRecordRoute(sent[packet.EthHeaderLen:]), extension)
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(packet.ICMPTimeExceeded, 0)}
		from := fromRouter("198.51.100.1", 0, 0)
		r.put("nic0", from.build(from.ip(layers.IPProtocolICMPv4), icmp, gopacket.Payload(quote)))
		raw := r.one("vnic-A")
		got := raw[packet.EthHeaderLen+packet.IPv4MinLen+packet.ICMPHeaderLen:]
		if !decode(raw).valid || got[0] != 4<<4|7 {
			t.Errorf("the error is %+v", decode(raw))
		}
		sport, dport := binary.BigEndian.Uint16(got[28:]), binary.BigEndian.Uint16(got[30:])
		if src := packet.AddrFrom4(got[12:]).Netip().String(); src != serverA || sport != 80 || dport != 4000 {
			t.Errorf("quotes %s:%d to port %d", src, sport, dport)
		}
		if !slices.Equal(got[len(got)-len(extension):], extension) {
			t.Errorf("the extension became %x", got[len(got)-len(extension):])
		}
	})
}

// withRecordRoute gives a packet 8 bytes of IP options.
func withRecordRoute(pkt []byte) []byte {
	p := slices.Concat(pkt[:packet.IPv4MinLen], []byte{7, 7, 4, 0, 0, 0, 0, 0}, pkt[packet.IPv4MinLen:])
	p[0] = 4<<4 | 7
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^plainSum(p[:28]))
	return p
}
