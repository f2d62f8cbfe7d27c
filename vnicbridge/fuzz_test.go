package vnicbridge

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// FuzzFrame gives any bytes to a port, as a frame with any offload header. What
// comes out must be what a bridge may send there (rows S1 to S3, L6), with the
// checksums as right as they were.
func FuzzFrame(f *testing.F) {
	for i, raw := range hostileFrames(64) {
		f.Add(i%2 == 0, byte(0), raw)
	}
	f.Add(true, byte(packet.VNetNeedsCsum), fromRouter(router, 4000, 80).tcp("S", "payload"))
	f.Add(true, byte(0), fromRouter(farHost, 4000, 80).udp("payload"))
	f.Add(true, byte(0), fromRouter(farHost, 4000, 0).echo("payload"))
	f.Add(false, byte(0), fromA(routerOnA, 7, 0).echo("payload"))
	f.Add(true, byte(0), arp(true, hostMAC, otherHost, config.MAC{}, pseudo))
	f.Add(true, byte(0), []byte{})
	for i, raw := range framesOfIPv6() {
		f.Add(true, byte(i%2), raw)
	}
	f.Add(false, byte(0), fromA6(routerOnA6, 7, 0).echo("payload"))
	f.Add(false, byte(0), fromA6(farHost6, 7, 0).icmpErrorAbout(packet.ICMPv6PacketTooBig, in6(farHost6, 7, 0).echo("x"), 100))

	r := newFuzzRig(f)
	nic, vnic := r.plane.bridges["lan"].iface, r.plane.segments["a"].iface
	ticked := r.plane.now()
	f.Fuzz(func(t *testing.T, fromNIC bool, flags byte, raw []byte) {
		if now := r.plane.now(); now-ticked >= int64(maintainInterval) {
			r.plane.tick(now, time.Duration(now-ticked))
			ticked = now
			for _, d := range r.machine.devices {
				d.take() // what a tick sends is about earlier frames
			}
		}
		in := vnic
		if fromNIC {
			in = nic
		}
		data := append(make([]byte, packet.VNetHeaderLen), raw...)
		data[0] = flags
		var out iface.Outbox
		r.plane.path.Receive(&userspace.Arrival{In: in, Frame: &packet.Frame{Data: data}, Now: r.plane.now(), Out: &out})
		out.Flush()
		r.checkSent(t, raw, flags, fromNIC)
	})
}

// framesOfIPv6 are frames with headers of all kinds.
func framesOfIPv6() [][]byte {
	e := in6(farHost6, 4000, 80)
	echo, udp, tcp := in6(farHost6, 4000, 0).echo("payload"), e.udp("payload"), e.tcp("S", "payload")
	hop, options := optionsOf(headerHop, 8), optionsOf(headerOptions, 16)
	return [][]byte{
		echo, udp, tcp, withHeaders(tcp, hop, options), withHeaders(udp, fragmentOf(0, false, 1)), withHeaders(udp, fragmentOf(0, true, 1), options),
		withHeaders(udp, fragmentOf(8, true, 1)), withHeaders(echo, hop, fragmentOf(16, false, 1)), withHeaders(tcp, extension{43, []byte{0, 0, 1, 0, 0, 0, 0}}),
		withHeaders(udp, slices.Repeat([]extension{options}, 9)...), withNext(e.udp("x"), 50), withNext(e.udp("x"), 59), withSource(e.udp("x"), "::ffff:10.0.0.1"),
		e.icmpErrorAbout(packet.ICMPv6PacketTooBig, withHeaders(udp, options), 100), e.icmpErrorAbout(packet.ICMPv6Unreachable, tcp, ipv6HeaderLen+8),
		e.icmpv6(135, 0, 0, mustIP(pseudo6).AsSlice()), e.icmpv6(136, 0, 0, make([]byte, 16)), withHeaders(e.icmpv6(130, 0, 0, make([]byte, 20)), hop),
	}
}

// newFuzzRig has a plane that does nothing by itself: it sends only when a test calls it.
func newFuzzRig(f *testing.F) *rig {
	m := &memoryMachine{devices: make(map[string]*memoryDevice), hints: make(chan struct{}, 1), tracked: make(map[string]bool)}
	r := &rig{machine: m, plane: New(Options{machine: func() (machine, error) { return m, nil }})}
	cfg := dualConfig()
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
	cfg.MaxFlows = 1000
	if err := r.plane.Apply(cfg); err != nil {
		f.Fatal(err)
	}
	close(r.plane.session.stop)
	r.plane.session.stop = make(chan struct{}) // for Close
	f.Cleanup(func() { _ = r.plane.Close() })
	return r
}

// checkSent checks what the devices sent for a frame.
func (r *rig) checkSent(t *testing.T, in []byte, flags byte, fromNIC bool) {
	t.Helper()
	if len(r.got("vnic-B")) > 0 {
		t.Error("a frame reached a segment that no rule names")
	}
	for _, sent := range r.got("vnic-A") {
		d := decode(sent)
		if d.dstMAC != vnicAMAC || d.dst != serverA && d.dst != serverA6 {
			t.Errorf("to the segment: %+v", d)
		}
		if !fromNIC || isFragment(in) {
			continue // an answer to the segment; others may have waited for a fragment
		}
		if len(sent) != len(in) {
			t.Errorf("%d bytes became %d", len(in), len(sent))
		}
		if flags&packet.VNetNeedsCsum == 0 && decode(in).valid && !d.valid {
			t.Errorf("right checksums became wrong: %+v", d)
		}
	}
	for _, sent := range r.got("nic0") {
		d := decode(sent)
		ours := d.src == "" || d.src == pseudo || d.src == pseudo6 || d.icmp >= packet.MLDQuery // what neighbours say
		if d.srcMAC != nicMAC || !ours {
			t.Errorf("to the network: %+v", d)
		}
	}
}

func isFragment(raw []byte) bool {
	ip := raw[packet.EthHeaderLen:]
	if ip[0]>>4 == 6 {
		return bytes.Contains(ip[6:], []byte{headerFragment}) // or it could be
	}
	return binary.BigEndian.Uint16(ip[6:])&(packet.IPMoreFragments|packet.IPFragmentOffset) != 0
}

// FuzzRewrite rewrites a packet there and back: the bytes are those that came, and
// the checksums in between are right.
func FuzzRewrite(f *testing.F) {
	f.Add(byte(0), []byte("\xc0\xa8\x01\x01\xc0\xa8\x01\x02\x0f\xa0\x00\x50\xc0\xa8\x32\x02\xc0\xa8\x32\x01\x0f\xa0\x00\x50"), "payload")
	f.Add(byte(1), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "")
	f.Fuzz(func(t *testing.T, kind byte, tuples []byte, payload string) {
		if len(tuples) < 24 || len(payload) > 1000 {
			return
		}
		from, to := endsFrom(tuples), endsFrom(tuples[12:])
		raw := from.tcp("A", payload)
		if kind%2 == 1 {
			raw = from.udp(payload)
		}
		fr := asFrame(raw)
		p, verdict := packet.ParseIPv4(&fr)
		if verdict != packet.Keep {
			t.Fatal(verdict)
		}
		p.Rewrite(tupleOf(to, p.Proto), false)
		if d := decode(fr.Eth()); !d.valid {
			t.Errorf("wrong checksums: %+v", d)
		}
		p.Rewrite(tupleOf(from, p.Proto), false)
		if !bytes.Equal(fr.Eth(), raw) {
			t.Errorf("there and back:\n%x\n%x", raw, fr.Eth())
		}
	})
}

func endsFrom(b []byte) ends {
	return ends{
		routerMAC, nicMAC, packet.AddrFrom4(b).Netip().String(), packet.AddrFrom4(b[4:]).Netip().String(),
		uint16(b[8])<<8 | uint16(b[9]), uint16(b[10])<<8 | uint16(b[11]),
	}
}
