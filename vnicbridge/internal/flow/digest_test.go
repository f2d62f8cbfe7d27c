package flow

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row S3: two IPv6 flows whose keys have one digest are two flows. The second one is refused,
// and no packet of it comes to the first one.
func TestEqualDigests(t *testing.T) {
	table := OwnTable(64, new(Handshakes))
	in, out := iface.New(1, "in"), iface.New(2, "out")
	in.NIC = new(iface.NICSide)
	table.Know(in)
	table.Know(out)
	first := packet.Tuple{
		Src: packet.Addr{0x20, 0x01, 15: 1}, Dst: packet.Addr{0x20, 0x01, 5: 8, 15: 1}, Sport: 1000, Dport: 80, Proto: config.UDP,
	}
	second := first
	second.Src = packet.Addr{0x20, 0x02, 15: 1}
	second.Dst = withDigest(table, second, table.digest(&first.Src, &first.Dst))
	if second.Dst == first.Dst || table.KeyOf(Key{first, 1}) != table.KeyOf(Key{second, 1}) {
		t.Fatal("the keys are not equal")
	}
	answers := func(question packet.Tuple, alias byte) []packet.Tuple {
		return []packet.Tuple{{
			Src: packet.Addr{0xfd, 15: 1}, Dst: packet.Addr{0xfd, 15: alias}, Sport: 80, Dport: question.Sport, Proto: config.UDP,
		}}
	}
	if f, verdict := table.Insert(New(in, out, &packet.Packet{Tuple: first}, 1), slices.Values(answers(first, 2))); f == nil {
		t.Fatal(verdict)
	}
	if f, verdict := table.Insert(New(in, out, &packet.Packet{Tuple: second}, 1), slices.Values(answers(second, 3))); f != nil || verdict != packet.DropNoTuple {
		t.Errorf("the second flow is %v (%s), want none", f, verdict)
	}
	if f, _ := table.Lookup(Key{second, 1}); f != nil {
		t.Errorf("the second flow's packets come to %v", f)
	}
	if f, _ := table.Lookup(Key{first, 1}); f == nil || f.Orig != first {
		t.Errorf("the first flow is %v", f)
	}
	if table.Len() != 1 {
		t.Errorf("the table has %d flows, want 1", table.Len())
	}
}

// withDigest returns the destination with which a tuple's addresses have a digest. The last
// step of digest can be undone for any source.
func withDigest(t *Table, tuple packet.Tuple, want uint64) packet.Addr {
	dst := tuple.Dst
	undone := func(digest uint64) uint64 { // the second half of dst, mixed with what comes before
		h := digest ^ digest>>32
		return h * inverse(0xd6e8feb86659fd93)
	}
	mixed := undone(t.digest(&tuple.Src, &dst)) ^ packet.Halves(dst)[1]
	binary.NativeEndian.PutUint64(dst[8:], undone(want)^mixed)
	return dst
}

// inverse returns the number whose product with an odd one is 1, modulo 2⁶⁴ (Newton).
func inverse(odd uint64) uint64 {
	x := odd
	for range 6 {
		x *= 2 - odd*x
	}
	return x
}
