package vnicbridge

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// Row F7 in IPv6: the fragments follow the first, both ways, in any order of arrival.
func TestIPv6Fragments(t *testing.T) {
	payload := strings.Repeat("\x00\x35\x00\x35\x00\x08\x00\x00", 500) // UDP headers
	random := rand.New(rand.NewPCG(5, 6))
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		for i := range 20 {
			id := uint32(i) << 20
			in := cut6(in6(farHost6, 4000, 53).udp(payload), id, 1448)
			random.Shuffle(len(in), func(a, b int) { in[a], in[b] = in[b], in[a] })
			r.put("nic0", in...)
			whole, got := joined6(t, r.got("vnic-A"))
			d := decode(whole)
			if d.dst != serverA6 || d.payload != payload || !d.valid || got != id {
				t.Fatalf("in: %d bytes to %s, valid %v, identification %x", len(d.payload), d.dst, d.valid, got)
			}
			out := cut6(fromA6(d.src, 53, 4000).udp(payload), id, 1448)
			random.Shuffle(len(out), func(a, b int) { out[a], out[b] = out[b], out[a] })
			r.put("vnic-A", out...)
			whole, _ = joined6(t, r.got("nic0"))
			if d = decode(whole); d.src != pseudo6 || d.dst != farHost6 || d.payload != payload || !d.valid {
				t.Fatalf("out: %d bytes to %s, valid %v", len(d.payload), d.dst, d.valid)
			}
		}
		big := cut6(in6(farHost6, 4000, 0).echo(payload), 1, 1448)
		r.put("nic0", big...)
		if whole, _ := joined6(t, r.got("vnic-A")); decode(whole).payload != payload || !decode(whole).valid {
			t.Error("a large echo is damaged")
		}
	})
}

// Row F7 in IPv6: the fragments of a datagram may begin with options, and a later one may
// name any header as the next.
func TestIPv6FragmentsWithOptions(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		payload := strings.Repeat("x", 3000)
		whole := withHeaders(in6(farHost6, 4000, 53).udp(payload), optionsOf(headerOptions, 24))
		fragments := cut6(whole, 9, 1448)
		for i := range fragments { // hop-by-hop options stand before the fragment header
			fragments[i] = withHeaders(fragments[i], optionsOf(headerHop, 8))
		}
		slices.Reverse(fragments)
		r.put("nic0", fragments...)
		var got [][]byte
		for _, f := range r.got("vnic-A") {
			const at = packet.EthHeaderLen + ipv6HeaderLen
			if f[packet.EthHeaderLen+6] != headerHop || f[at] != headerFragment {
				t.Fatalf("the options are missing: %x", f)
			}
			f = slices.Delete(f, at, at+8)
			f[packet.EthHeaderLen+6] = headerFragment
			got = append(got, f)
		}
		again, _ := joined6(t, got)
		if d := decode(again); d.payload != payload || !d.valid || len(d.headers) != 24 {
			t.Errorf("%d bytes, valid %v", len(d.payload), d.valid)
		}
	})
}

// Row F7 in IPv6: identifications that would collide after rewriting are changed.
func TestIPv6IdentificationsDoNotCollide(t *testing.T) {
	cfg := dualConfig()
	cfg.Segments["a"].Egress, cfg.Segments["b"].Egress = config.EgressAny, config.EgressAny
	inIPv6(t, cfg, func(t *testing.T, r *rig) {
		payload := strings.Repeat("x", 3000)
		fromB := ends{vnicBMAC, routerMAC, serverB6, farHost6, 1001, 53}
		a, b := cut6(fromA6(farHost6, 1000, 53).udp(payload), 7, 1448), cut6(fromB.udp(payload), 7, 1448)
		r.put("vnic-A", a[:2]...)
		r.put("vnic-B", b...)
		r.put("vnic-A", a[2])
		byID := make(map[uint32][][]byte)
		for _, f := range r.got("nic0") {
			id := binary.BigEndian.Uint32(f[packet.EthHeaderLen+ipv6HeaderLen+4:])
			byID[id] = append(byID[id], f)
		}
		if len(byID) != 2 {
			t.Errorf("%d identifications, want 2", len(byID))
		}
		for _, fragments := range byID {
			if whole, _ := joined6(t, fragments); !decode(whole).valid {
				t.Error("a datagram is damaged")
			}
		}
	})
}

// Row F7 in IPv6: an atomic fragment is a packet by itself, whatever else has its
// identification (RFC 6946). A first fragment without the whole chain is dropped (RFC 7112).
func TestIPv6OddFragments(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		payload := strings.Repeat("x", 3000)
		fragments := cut6(in6(farHost6, 4000, 53).udp(payload), 7, 1448)
		r.put("nic0", fragments[0], withHeaders(in6(farHost6, 4001, 53).udp("alone"), fragmentOf(0, false, 7)), fragments[1], fragments[2])
		got := r.got("vnic-A")
		if len(got) != 4 || decode(got[1]).payload != "alone" || !decode(got[1]).valid {
			t.Fatalf("%d frames", len(got))
		}
		if whole, _ := joined6(t, slices.Delete(got, 1, 2)); decode(whole).payload != payload {
			t.Error("the datagram is damaged")
		}
		const at = packet.EthHeaderLen + ipv6HeaderLen
		for name, first := range map[string][]byte{
			"no ports":     cut6(in6(farHost6, 4000, 53).udp(payload), 8, 1448)[0][:at+8],
			"half of TCP":  cut6(in6(farHost6, 4000, 80).tcp("S", payload), 9, 16)[0],
			"half a chain": cut6(withHeaders(in6(farHost6, 4000, 53).udp(payload), optionsOf(headerOptions, 64)), 10, 32)[0],
		} {
			before := r.drops("nic0", "malformed")
			binary.BigEndian.PutUint16(first[packet.EthHeaderLen+4:], uint16(len(first)-at))
			r.put("nic0", first)
			if n := r.drops("nic0", "malformed"); n != before+1 {
				t.Errorf("%s: %d counted as malformed, want %d", name, n, before+1)
			}
			r.silent("vnic-A", "nic0")
		}
	})
}

// Row F7 in IPv6: what never comes to an end is forgotten after a minute, not earlier.
func TestIPv6FragmentTime(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		held := func() int {
			n := 0
			table := r.plane.path.Fragments
			table.Mu.Lock()
			defer table.Mu.Unlock()
			for _, q := range table.Ifaces {
				n += q.Headless.Len()
			}
			return n
		}
		r.put("nic0", cut6(in6(farHost6, 4000, 53).udp(strings.Repeat("x", 3000)), 7, 1448)[1])
		time.Sleep(userspace.FragmentTime + 2*time.Second)
		if held() != 1 {
			t.Errorf("%d datagrams after %v, want 1", held(), userspace.FragmentTime)
		}
		time.Sleep(userspace.IPv6FragmentTime - userspace.FragmentTime)
		if held() != 0 {
			t.Errorf("%d datagrams after %v, want none", held(), userspace.IPv6FragmentTime)
		}
	})
}

// Row F7+ in IPv6: of a datagram whose fragments overlap, no fragment leaves any more.
func TestIPv6OverlapsDropTheDatagram(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		whole := in6(farHost6, 4000, 53).udp(strings.Repeat("x", 3000))
		cuts := cut6(whole, 7, 1448)
		overlap := withHeaders(slices.Concat(whole[:packet.EthHeaderLen+ipv6HeaderLen], make([]byte, 16)), fragmentOf(1440, true, 7))
		r.put("nic0", cuts[0], overlap, cuts[1], cuts[2])
		if n := len(r.got("vnic-A")); n != 1 {
			t.Errorf("%d fragments left, want the first", n)
		}
		if n := r.drops("nic0", "fragment"); n != 3 {
			t.Errorf("%d counted, want 3", n)
		}
	})
}
