package vnicbridge

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row F7+: of what programs leave to userspace, fragments without a first one get a part
// only. When that is used up, the fragments that come in order go in still.
func TestStrayFragmentsLeaveRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can load BPF programs")
	}
	t.Run("kernel", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, paperConfig())
			p := r.plane.datapaths.kernelPath().(memoryPath).Plane
			wantRoomBesideStrays(t, datagram4, func(frames ...[]byte) (in int) {
				dropped := r.drops("nic0", "overload")
				for _, f := range frames {
					p.Odd.Spent, p.Strays.Spent = 0, usedUp
					r.put("nic0", f)
				}
				return len(frames) - int(r.drops("nic0", "overload")-dropped)
			})
		})
	})
	t.Run("userspace", func(t *testing.T) {
		l := host.NewLetIn(dualPseudos())
		if l.Program == nil {
			t.Fatal("the filter is no program")
		}
		defer l.Close()
		put := func(frames ...[]byte) (in int) {
			for _, f := range frames {
				var state bpf.LetInState
				if err := l.State.Lookup(uint32(0), &state); err != nil {
					t.Fatal(err)
				}
				state.Odd.Spent, state.Strays.Spent = 0, usedUp
				if err := l.State.Put(uint32(0), state); err != nil {
					t.Fatal(err)
				}
				// A run begins behind an Ethernet header; that of a socket, before it.
				n, _, err := l.Program.Test(slices.Concat(make([]byte, packet.EthHeaderLen), f))
				if err != nil {
					t.Fatal(err)
				}
				if n != 0 {
					in++
				}
			}
			return in
		}
		wantRoomBesideStrays(t, datagram4, put)
		wantRoomBesideStrays(t, datagram6, put)
	})
	t.Run("IPv6/kernel", func(t *testing.T) {
		r := newFateRig(t, dualConfig())
		p := r.plane.datapaths.kernelPath().(memoryPath).Plane
		wantRoomBesideStrays(t, datagram6, func(frames ...[]byte) (in int) {
			for _, f := range frames {
				p.Odd.Spent, p.Strays.Spent = 0, usedUp
				if r.fateOf(f) == ours {
					in++
				}
			}
			return in
		})
	})
}

// datagram4 are the fragments of a datagram of IPv4 that carry so many bytes each, and
// datagram6 those of IPv6, of which some are behind destination options.
func datagram4(i, size, each int) [][]byte {
	return cut(fromRouter(client(i), 4000, 53).udp(filled('x', size)), uint16(i), each)
}

func datagram6(i, size, each int) (fragments [][]byte) {
	for at := 0; at < size; at += each {
		bits := uint16(at)
		if at+each < size {
			bits |= 1
		}
		header := []byte{17, 0, byte(bits >> 8), byte(bits), 7, 7, byte(i >> 8), byte(i)}
		next := byte(44)
		if i%2 == 1 {
			header, next = slices.Concat([]byte{44, 0, 1, 4, 0, 0, 0, 0}, header), 60
		}
		part := slices.Concat(header, []byte(filled('x', min(each, size-at))))
		fragments = append(fragments, rawIPv6(dualStranger, dualPseudo, next, 64, part...))
	}
	return fragments
}

// wantRoomBesideStrays floods with strays, and checks which frames still come in. A few strays do,
// because another datagram has the same hash, and its first fragment has come. Tests share the
// maps, so that may have been in another test.
func wantRoomBesideStrays(t *testing.T, cutDatagram func(i, size, each int) [][]byte, put func(frames ...[]byte) (in int)) {
	t.Helper()
	datagram := func(i int) [][]byte { return cutDatagram(i, 4000, 1480) }
	const frames = 100
	strays := 0
	for i := range frames {
		strays += put(datagram(i)[1])
	}
	if strays > frames/10 {
		t.Errorf("of %d strays %d went in", frames, strays)
	}
	for i := range frames {
		if n := put(datagram(frames + i)...); n != 3 {
			t.Fatalf("of a datagram of 3 fragments %d went in", n)
		}
	}
	behind := 0
	for i := range frames {
		behind += put(datagram(frames + i)[1])
	}
	if behind > frames/10 {
		t.Errorf("of %d fragments behind the last %d went in", frames, behind)
	}
	const followers = 64 // FOLLOWERS of bpf/limit.h
	long := cutDatagram(9, 3000, 8)
	if n := put(long...); n != 1+followers {
		t.Errorf("%d fragments went in, want one and the %d that may follow it", n, followers)
	}
}
