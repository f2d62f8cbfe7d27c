package vnicbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// cut cuts a datagram's frame into fragments of at most size bytes of payload.
func cut(raw []byte, id uint16, size int) (fragments [][]byte) {
	header, body := raw[:packet.EthHeaderLen+packet.IPv4MinLen], raw[packet.EthHeaderLen+packet.IPv4MinLen:]
	for offset := 0; offset < len(body); offset += size {
		part := body[offset:min(offset+size, len(body))]
		f := append(bytes.Clone(header), part...)
		bits := uint16(offset / 8)
		if offset+size < len(body) {
			bits |= packet.IPMoreFragments
		}
		setFragment(f, id, bits)
		fragments = append(fragments, f)
	}
	return fragments
}

// setFragment makes a frame's packet a fragment, with a length and a checksum that fit.
func setFragment(f []byte, id, bits uint16) {
	ip := f[packet.EthHeaderLen:]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], id)
	binary.BigEndian.PutUint16(ip[6:], bits)
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^plainSum(ip[:packet.IPv4MinLen]))
}

// joined puts fragments together again. They must be all of one datagram.
func joined(t *testing.T, fragments [][]byte) []byte {
	t.Helper()
	if len(fragments) == 0 {
		t.Fatal("no fragments")
	}
	var body []byte
	id := fragments[0][packet.EthHeaderLen+4 : packet.EthHeaderLen+6]
	total := 0
	for _, f := range fragments {
		ip := f[packet.EthHeaderLen:]
		if plainSum(ip[:packet.IPv4MinLen]) != 0xffff {
			t.Error("a fragment's header checksum is wrong")
		}
		if !bytes.Equal(ip[4:6], id) {
			t.Errorf("identifications %x and %x in one datagram", id, ip[4:6])
		}
		offset := int(binary.BigEndian.Uint16(ip[6:])&packet.IPFragmentOffset) * 8
		part := ip[packet.IPv4MinLen:]
		if need := offset + len(part); need > len(body) {
			body = append(body, make([]byte, need-len(body))...)
		}
		copy(body[offset:], part)
		total += len(part)
	}
	if total != len(body) {
		t.Errorf("%d bytes in a datagram of %d", total, len(body))
	}
	whole := append(bytes.Clone(fragments[0][:packet.EthHeaderLen+packet.IPv4MinLen]), body...)
	ip := whole[packet.EthHeaderLen:]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[6], ip[7], ip[10], ip[11] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^plainSum(ip[:packet.IPv4MinLen]))
	return whole
}

// Row F7: the fragments follow the first, both ways, in any order of arrival, also
// if each looks like a datagram of its own.
func TestFragmentsFollowTheFirst(t *testing.T) {
	payload := string(bytes.Repeat([]byte{0, 53, 0, 53, 0, 8, 0, 0}, 500)) // UDP headers
	random := rand.New(rand.NewPCG(5, 6))
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		for i := range 20 {
			in := cut(fromRouter(farHost, 4000, 53).udp(payload), uint16(100+i), 1480)
			random.Shuffle(len(in), func(a, b int) { in[a], in[b] = in[b], in[a] })
			r.put("nic0", in...)
			d := decode(joined(t, r.got("vnic-A")))
			if d.dst != serverA || d.payload != payload || !d.valid {
				t.Fatalf("in: %d bytes to %s, valid %v", len(d.payload), d.dst, d.valid)
			}
			out := cut(fromA(d.src, 53, 4000).udp(payload), uint16(200+i), 1480)
			random.Shuffle(len(out), func(a, b int) { out[a], out[b] = out[b], out[a] })
			r.put("vnic-A", out...)
			d = decode(joined(t, r.got("nic0")))
			if d.src != pseudo || d.dst != farHost || d.payload != payload || !d.valid {
				t.Fatalf("out: %d bytes to %s, valid %v", len(d.payload), d.dst, d.valid)
			}
		}
		if n := r.plane.Status().Flows; n != 1 {
			t.Errorf("%d flows, want 1", n)
		}
	})
}

// Row F7: identifications that would collide after the rewriting are changed: the
// clients of a pool of one alias use the same one at once.
func TestFragmentIdentificationsDoNotCollide(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Aliases = config.AddrRange{First: mustIP("192.168.50.2"), Last: mustIP("192.168.50.3")}
	payload := string(bytes.Repeat([]byte("x"), 3000))
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		byID := make(map[string]bool)
		for i := range 50 {
			client := fmt.Sprintf("203.0.113.%d", i+1)
			r.put("nic0", cut(fromRouter(client, uint16(4000+i), 53).udp(payload), 7, 1480)...)
			whole := joined(t, r.got("vnic-A"))
			d := decode(whole)
			if !d.valid || d.payload != payload {
				t.Fatalf("%s: %+v", client, d)
			}
			key := fmt.Sprintf("%s %x", d.src, whole[packet.EthHeaderLen+4:packet.EthHeaderLen+6])
			if byID[key] {
				t.Fatalf("two datagrams are %s", key)
			}
			byID[key] = true
		}
	})
}

// Row F7: what never comes to an end is bounded in number, bytes and time.
func TestFragmentsAreBounded(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		payload := string(bytes.Repeat([]byte("x"), 3000))
		wantBounded := func() {
			t.Helper()
			if datagrams, bytes := r.inFragments("nic0"); datagrams > userspace.MaxHeadless || bytes > userspace.MaxHeldBytes {
				t.Errorf("%d datagrams, %d bytes are held", datagrams, bytes)
			}
		}
		for i := range 4 * userspace.MaxHeadless {
			size := 1480 // many bytes, then many fragments
			if i == 2*userspace.MaxHeadless {
				r.silent("vnic-A")
				wantBounded()
			}
			if i > 2*userspace.MaxHeadless {
				size = 8
			}
			fragments := cut(fromRouter(farHost, 4000, 53).udp(payload[:2*size]), uint16(i), size)
			r.put("nic0", fragments[1]) // never the first
		}
		r.silent("vnic-A")
		wantBounded()
		if r.drops("nic0", "fragment") == 0 {
			t.Error("nothing is counted")
		}
		time.Sleep(userspace.FragmentTime + time.Second)
		if datagrams, bytes := r.inFragments("nic0"); datagrams+bytes != 0 {
			t.Errorf("%d datagrams, %d bytes after their time", datagrams, bytes)
		}
		r.got("nic0")
		r.put("nic0", cut(fromRouter(farHost, 4000, 53).udp(payload), 1, 1480)...)
		if d := decode(joined(t, r.got("vnic-A"))); d.payload != payload {
			t.Error("afterwards fragments no longer pass")
		}
		time.Sleep(userspace.FragmentTime + time.Second)
		if datagrams, _ := r.inFragments("nic0"); datagrams != 0 {
			t.Errorf("%d datagrams are remembered after their time", datagrams)
		}
	})
}

// inFragments is how many datagrams in fragments a device has, and how many bytes of them
// are held.
func (r *rig) inFragments(device string) (datagrams, bytes int) {
	t := r.plane.path.Fragments
	t.Mu.Lock()
	defer t.Mu.Unlock()
	for p, q := range t.Ifaces {
		if p.Name == device {
			return q.Headless.Len() + q.Led.Len() + q.Over.Len(), q.Held
		}
	}
	return 0, 0
}

// steered sends UDP port 6000 to segment b, and the rest to a.
func steered() *config.Config {
	cfg := paperConfig()
	cfg.Bridges["lan"].Steer = []config.Rule{{Segment: "b", Ports: []config.PortRange{{Protocol: config.UDP, First: 6000, Last: 6000}}}}
	return cfg
}

func filled(b byte, n int) string { return string(bytes.Repeat([]byte{b}, n)) }

// Row F7+: a first fragment begins a new datagram, which its own ports steer, whatever
// datagram had its identification before: a whole one, or one that lacks a part.
func TestAFirstFragmentBeginsADatagram(t *testing.T) {
	toA := cut(fromRouter(farHost, 4000, 5000).udp(filled('a', 4000)), 7, 1480)
	toB := cut(fromRouter(farHost, 4000, 6000).udp(filled('b', 4000)), 7, 1480)
	againA := cut(fromRouter(farHost, 4000, 5000).udp(filled('c', 4000)), 7, 1480)
	refused := cut(fromRouter(farHost, 4000, 7000).udp(filled('d', 4000)), 7, 1480)
	backwards := slices.Clone(toB)
	slices.Reverse(backwards)
	for _, tc := range []struct {
		name string
		sent [][]byte
		a, b string // the payload of the last datagram that comes whole
	}{
		{"after a whole one", slices.Concat(toA, toB), filled('a', 4000), filled('b', 4000)},
		{"after a whole one, backwards", slices.Concat(toA, backwards), filled('a', 4000), filled('b', 4000)},
		{"after a first one", slices.Concat(toA[:1], toB), "", filled('b', 4000)},
		{"after one without its last", slices.Concat(toA[:2], toB), "", filled('b', 4000)},
		{"of the same flow", slices.Concat(toA[:2], againA), filled('c', 4000), ""},
		{"twice", slices.Concat(toA[:1], toA[:1], toA[1:]), filled('a', 4000), ""},
		{"twice, at the end", slices.Concat(toA[:2], toA[:1], toA[2:]), filled('a', 4000), ""},
		{"twice, and the second", slices.Concat(toA[:2], toA[:2], toA[2:]), filled('a', 4000), ""},
		{"which is refused", slices.Concat(toA[:1], refused, againA), filled('c', 4000), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := steered()
			cfg.Segments["a"].Ports = []config.PortRange{{Protocol: config.UDP, First: 5000, Last: 5000}}
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				r.put("nic0", tc.sent...)
				for device, want := range map[string]string{"vnic-A": tc.a, "vnic-B": tc.b} {
					if got := lastWhole(t, r.got(device)); got != want {
						t.Errorf("%s got %.1q (%d bytes), want %.1q", device, got, len(got), want)
					}
				}
			})
		})
	}
}

// lastWhole is the payload of the last datagram of which all fragments are there, as a
// receiver sees it, which goes by identifications and drops duplicates.
func lastWhole(t *testing.T, fragments [][]byte) (payload string) {
	t.Helper()
	byID := make(map[uint16][][]byte)
	for _, f := range fragments {
		id := binary.BigEndian.Uint16(f[packet.EthHeaderLen+4:])
		byID[id] = append(byID[id], f)
		if last := byID[id]; len(last) == 3 {
			d := decode(joined(t, last))
			if !d.valid {
				t.Errorf("identification %d: fragments of two datagrams", id)
			}
			payload, byID[id] = d.payload, nil
		}
	}
	return payload
}

// Row F7+: an identification is free when its datagram is whole: a sender may use few of
// them for many datagrams, forwards and backwards, in both directions.
func TestIdentificationsAreFreeAgain(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		for i := range 3 * userspace.MaxLed / 2 {
			payload := fmt.Sprintf("%4000d", i)
			in := cut(fromRouter(farHost, 4000, 53).udp(payload), uint16(i%3), 1480)
			if i%5 == 0 {
				slices.Reverse(in)
			}
			r.put("nic0", in...)
			whole := joined(t, r.got("vnic-A"))
			d := decode(whole)
			if d.payload != payload || !d.valid || d.ipID != uint16(i%3) {
				t.Fatalf("datagram %d: identification %d, %d bytes, valid %v", i, d.ipID, len(d.payload), d.valid)
			}
			r.put("vnic-A", cut(fromA(d.src, 53, 4000).udp(payload), uint16(i%3), 1480)...)
			if d := decode(joined(t, r.got("nic0"))); d.payload != payload || !d.valid {
				t.Fatalf("answer %d: %d bytes, valid %v", i, len(d.payload), d.valid)
			}
		}
	})
}

// Row F7+: no flood of fragments without a first one keeps others out, whoever sends it:
// hosts, or a segment.
func TestStrayFragmentsMakeRoom(t *testing.T) {
	onEachDataPath(t, steered(), func(t *testing.T, r *rig) {
		stray := func(e ends, i int) []byte {
			size := 1480
			if i%2 == 0 {
				size = 8
			}
			return cut(e.udp(filled('s', 2*size)), uint16(i), size)[1]
		}
		strays := 0
		flood := func(n int) {
			for range n {
				strays++
				r.put("nic0", stray(fromRouter(client(strays%5000), 4000, 53), strays))
				r.put("vnic-B", stray(ends{vnicBMAC, routerMAC, serverB, routerOnB, 53, 4000}, strays))
			}
		}
		flood(userspace.MaxHeadless + 100)
		for i := range 100 {
			payload := fmt.Sprintf("%4000d", i)
			in := cut(fromRouter(farHost, 4000, 53).udp(payload), uint16(i), 1480)
			if i%2 == 0 {
				slices.Reverse(in)
			}
			for _, f := range in {
				r.put("nic0", f)
				flood(20)
			}
			d := decode(joined(t, r.got("vnic-A")))
			if d.payload != payload || !d.valid {
				t.Fatalf("in: datagram %d: %d bytes, valid %v", i, len(d.payload), d.valid)
			}
			for _, f := range cut(fromA(d.src, 53, 4000).udp(payload), uint16(i), 1480) {
				r.put("vnic-A", f)
				flood(20)
			}
			if d := decode(joined(t, r.got("nic0"))); d.payload != payload || !d.valid {
				t.Fatalf("out: datagram %d: %d bytes, valid %v", i, len(d.payload), d.valid)
			}
		}
		for _, device := range []string{"nic0", "vnic-B"} {
			if datagrams, bytes := r.inFragments(device); datagrams > userspace.MaxHeadless+userspace.MaxLed+userspace.MaxOver || bytes > userspace.MaxHeldBytes {
				t.Errorf("%s: %d datagrams, %d bytes are held", device, datagrams, bytes)
			}
		}
	})
}

// Row F7+: a flood out of a segment, or from the network, costs the fragments that come in
// elsewhere no time at all.
func TestStrayFragmentsStayAmongThemselves(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		payload := filled('x', 4000)
		backwards := func(e ends) [][]byte {
			fragments := cut(e.udp(payload), 7, 1480)
			slices.Reverse(fragments)
			return fragments
		}
		fromB := cut(ends{vnicBMAC, routerMAC, serverB, routerOnB, 53, 4000}.udp(filled('s', 16)), 0, 8)[1]
		in := backwards(fromRouter(farHost, 4000, 53))
		r.put("nic0", in[:2]...)
		for i := range 2 * userspace.MaxHeadless {
			setFragment(fromB, uint16(i), 1)
			r.put("vnic-B", fromB)
		}
		r.put("nic0", in[2])
		d := decode(joined(t, r.got("vnic-A")))
		if d.payload != payload || !d.valid {
			t.Fatalf("in: %d bytes, valid %v", len(d.payload), d.valid)
		}
		out := backwards(fromA(d.src, 53, 4000))
		r.put("vnic-A", out[:2]...)
		for i := range 2 * userspace.MaxHeadless {
			r.put("nic0", cut(fromRouter(client(i%5000), 4000, 53).udp(filled('s', 16)), uint16(i), 8)[1])
		}
		r.put("vnic-A", out[2])
		if d := decode(joined(t, r.got("nic0"))); d.payload != payload || !d.valid {
			t.Errorf("out: %d bytes, valid %v", len(d.payload), d.valid)
		}
	})
}

// Row F7+: fragments from a source that cannot be take no memory.
func TestStrayFragmentsFromNowhere(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		for i, source := range []string{pseudo, serverB, "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1"} {
			r.put("nic0", cut(fromRouter(source, 4000, 53).udp(filled('x', 3000)), uint16(i), 1480)[1])
		}
		if datagrams, _ := r.inFragments("nic0"); datagrams != 0 {
			t.Errorf("%d datagrams are held", datagrams)
		}
		if n := r.drops("nic0", "bad_source"); n != 6 {
			t.Errorf("%d dropped for their source, want 6", n)
		}
	})
}

// Row F7+: of a datagram whose fragments overlap, or contradict each other, no fragment
// leaves any more.
func TestOverlapsDropTheDatagram(t *testing.T) {
	whole := fromRouter(farHost, 4000, 53).udp(filled('x', 4000))
	cuts := cut(whole, 7, 1480)
	at := func(offset int, more bool, n int) []byte {
		f := append(bytes.Clone(whole[:packet.EthHeaderLen+packet.IPv4MinLen]), filled('y', n)...)
		bits := uint16(offset / 8)
		if more {
			bits |= packet.IPMoreFragments
		}
		setFragment(f, 7, bits)
		return f
	}
	for _, tc := range []struct {
		name   string
		sent   [][]byte
		leaves int
	}{
		{"into the first", [][]byte{cuts[0], at(1472, true, 1480), cuts[1], cuts[2]}, 1},
		{"within the second", [][]byte{cuts[0], cuts[1], at(1488, true, 8), cuts[2]}, 2},
		{"round the second", [][]byte{cuts[0], cuts[1], at(1472, true, 1496), cuts[2]}, 2},
		{"the second, made last", [][]byte{cuts[0], cuts[1], at(1480, false, 1480), cuts[2]}, 2},
		{"beyond the last", [][]byte{cuts[0], cuts[2], at(4400, true, 8), cuts[1]}, 2},
		{"another last", [][]byte{cuts[0], cuts[2], at(4400, false, 8), cuts[1]}, 2},
		{"a last before another", [][]byte{cuts[0], cuts[1], at(8, false, 8), cuts[2]}, 2},
		{"before the first", [][]byte{at(1480, true, 16), at(1488, true, 16), cuts[0], cuts[1], cuts[2]}, 0},
		{"with the first, which is late", [][]byte{cuts[1], at(8, true, 16), cuts[0], cuts[2]}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.put("nic0", tc.sent...)
				if n := len(r.got("vnic-A")); n != tc.leaves {
					t.Errorf("%d fragments left, want %d", n, tc.leaves)
				}
				if n := r.drops("nic0", "fragment"); int(n) != len(tc.sent)-tc.leaves {
					t.Errorf("%d counted, want %d", n, len(tc.sent)-tc.leaves)
				}
				// The identification is good for another datagram.
				r.put("nic0", cut(fromRouter(farHost, 4000, 53).udp(filled('z', 4000)), 7, 1480)...)
				if d := decode(joined(t, r.got("vnic-A"))); d.payload != filled('z', 4000) || !d.valid {
					t.Errorf("the next datagram: %d bytes, valid %v", len(d.payload), d.valid)
				}
			})
		})
	}
}

// Row F7+: fragments that no datagram can have.
func TestImpossibleFragments(t *testing.T) {
	empty := fromRouter(farHost, 4000, 53).udp("")[:packet.EthHeaderLen+packet.IPv4MinLen]
	for name, f := range map[string][]byte{
		"an empty one":                     empty,
		"beyond the largest datagram":      append(bytes.Clone(empty), filled('x', 1480)...),
		"one that does not end at 8 bytes": append(bytes.Clone(empty), filled('x', 13)...),
	} {
		t.Run(name, func(t *testing.T) {
			bits := uint16(185 | packet.IPMoreFragments)
			if len(f) > len(empty)+1000 {
				bits = packet.IPFragmentOffset
			}
			f := bytes.Clone(f)
			setFragment(f, 7, bits)
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.put("nic0", cut(fromRouter(farHost, 4000, 53).udp(filled('x', 3000)), 7, 1480)[0], f)
				r.one("vnic-A")
				if n := r.drops("nic0", "malformed"); n != 1 {
					t.Errorf("%d counted as malformed, want 1", n)
				}
			})
		})
	}
}

// Row F10: a segment that is removed resets its connections, on both sides, with
// the sequence numbers that each side expects.
func TestARemovedSegmentResetsItsFlows(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(router, 4000)
		r.put("nic0", fromRouter(router, 4000, 80).tcp("A", "q"))
		r.put("vnic-A", fromA(routerOnA, 80, 4000).tcp("A", "a"))
		r.got("vnic-A")
		r.got("nic0")
		segment := r.machine.devices["vnic-A"]
		next := paperConfig()
		delete(next.Segments, "a")
		next.Bridges["lan"].LBPolicy.Segments = []string{"b"}
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		outside, inside := resets(r.got("nic0")), resets(segment.take())
		for _, side := range [][][]byte{outside, inside} {
			// Neither datum was acknowledged: its receiver waits for what follows it.
			var numbers []uint32
			for _, raw := range side {
				if d := decode(raw); !d.valid {
					t.Errorf("%+v", d)
				}
				numbers = append(numbers, binary.BigEndian.Uint32(raw[packet.EthHeaderLen+packet.IPv4MinLen+4:]))
			}
			if !slices.Equal(numbers, []uint32{1001, 1002}) {
				t.Fatalf("resets with the numbers %d, want 1001 and 1002", numbers)
			}
		}
		if d := decode(outside[0]); d.src != pseudo || d.dst != router || d.dstMAC != routerMAC {
			t.Errorf("outside: %+v", d)
		}
		if d := decode(inside[0]); d.src != routerOnA || d.dst != serverA || d.dstMAC != vnicAMAC {
			t.Errorf("inside: %+v", d)
		}
	})
}

func resets(frames [][]byte) (found [][]byte) {
	for _, raw := range frames {
		if d := decode(raw); d.proto == config.TCP && d.flags&packet.TCPRST != 0 {
			found = append(found, raw)
		}
	}
	return found
}
