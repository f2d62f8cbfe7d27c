package vnicbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// cut cuts a datagram's frame into fragments of at most size bytes of payload.
func cut(raw []byte, id uint16, size int) (fragments [][]byte) {
	header, body := raw[:ethHeaderLen+ipv4MinLen], raw[ethHeaderLen+ipv4MinLen:]
	for offset := 0; offset < len(body); offset += size {
		part := body[offset:min(offset+size, len(body))]
		f := append(bytes.Clone(header), part...)
		ip := f[ethHeaderLen:]
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[4:], id)
		bits := uint16(offset / 8)
		if offset+size < len(body) {
			bits |= ipMoreFragments
		}
		binary.BigEndian.PutUint16(ip[6:], bits)
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^plainSum(ip[:ipv4MinLen]))
		fragments = append(fragments, f)
	}
	return fragments
}

// joined puts fragments together again. They must be all of one datagram.
func joined(t *testing.T, fragments [][]byte) []byte {
	t.Helper()
	if len(fragments) == 0 {
		t.Fatal("no fragments")
	}
	var body []byte
	id := fragments[0][ethHeaderLen+4 : ethHeaderLen+6]
	total := 0
	for _, f := range fragments {
		ip := f[ethHeaderLen:]
		if plainSum(ip[:ipv4MinLen]) != 0xffff {
			t.Error("a fragment's header checksum is wrong")
		}
		if !bytes.Equal(ip[4:6], id) {
			t.Errorf("identifications %x and %x in one datagram", id, ip[4:6])
		}
		offset := int(binary.BigEndian.Uint16(ip[6:])&ipFragmentOffset) * 8
		part := ip[ipv4MinLen:]
		if need := offset + len(part); need > len(body) {
			body = append(body, make([]byte, need-len(body))...)
		}
		copy(body[offset:], part)
		total += len(part)
	}
	if total != len(body) {
		t.Errorf("%d bytes in a datagram of %d", total, len(body))
	}
	whole := append(bytes.Clone(fragments[0][:ethHeaderLen+ipv4MinLen]), body...)
	ip := whole[ethHeaderLen:]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[6], ip[7], ip[10], ip[11] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^plainSum(ip[:ipv4MinLen]))
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
	cfg.Segments["a"].Aliases = AddrRange{mustIP("192.168.50.2"), mustIP("192.168.50.3")}
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
			key := fmt.Sprintf("%s %x", d.src, whole[ethHeaderLen+4:ethHeaderLen+6])
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
		for i := range 2 * maxDatagrams {
			fragments := cut(fromRouter(farHost, 4000, 53).udp(payload), uint16(i), 1480)
			r.put("nic0", fragments[1]) // never the first
		}
		r.silent("vnic-A")
		table := r.plane.path.fragments
		table.mu.Lock()
		if len(table.datagrams) > maxDatagrams || table.held > maxHeldBytes {
			t.Errorf("%d datagrams, %d bytes are held", len(table.datagrams), table.held)
		}
		table.mu.Unlock()
		if r.drops("nic0", "fragment") == 0 {
			t.Error("nothing is counted")
		}
		time.Sleep(fragmentTime + time.Second)
		table.mu.Lock()
		if len(table.datagrams) != 0 || table.held != 0 {
			t.Errorf("%d datagrams, %d bytes after their time", len(table.datagrams), table.held)
		}
		table.mu.Unlock()
		r.got("nic0")
		r.put("nic0", cut(fromRouter(farHost, 4000, 53).udp(payload), 1, 1480)...)
		if d := decode(joined(t, r.got("vnic-A"))); d.payload != payload {
			t.Error("afterwards fragments no longer pass")
		}
	})
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
				numbers = append(numbers, binary.BigEndian.Uint32(raw[ethHeaderLen+ipv4MinLen+4:]))
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
		if d := decode(raw); d.proto == TCP && d.flags&tcpRST != 0 {
			found = append(found, raw)
		}
	}
	return found
}
