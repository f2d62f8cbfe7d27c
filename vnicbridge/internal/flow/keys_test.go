package flow

import (
	"math/rand/v2"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
)

// Row L1: as many keys as the records of a full table can have find a place, are
// found again, and leave nothing behind.
func TestKeyTable(t *testing.T) {
	const maxFlows = 1 << 16
	near, far := BucketsFor(maxFlows)
	table := KeyTable{
		Near: make([]Bucket, near), Far: make([]Bucket, far), Records: make([]bpf.FlowRecord, RecordsFor(maxFlows)),
		Secret: [2]uint64{rand.Uint64(), rand.Uint64()},
	}
	client := func(number int) bpf.FlowKey {
		return bpf.FlowKey{Src: uint32(number >> 8), Dst: 7, Sport: uint16(number & 255), Dport: 80, Iface: 1, Proto: 6}
	}
	for number := range table.Records {
		r := &table.Records[number]
		r.Orig, r.Reply = client(number), client(number)
		r.Reply.Iface = 2
		if !table.point(&r.Orig, uint32(number)) || !table.point(&r.Reply, uint32(number)|bpf.Reverse) {
			t.Fatalf("there is no room for the keys of record %d of %d", number, len(table.Records))
		}
		if table.point(&r.Orig, uint32(number+1)) {
			t.Fatalf("the key of record %d has two values", number)
		}
	}
	homes, displaced := 0, 0
	for number := range table.Records {
		r := &table.Records[number]
		if table.value(&r.Orig) != uint32(number) || table.value(&r.Reply) != uint32(number)|bpf.Reverse {
			t.Fatalf("the keys of record %d are not found", number)
		}
	}
	for i := range table.Near {
		homes += int(table.Near[i].displaced.Load())
	}
	for i := range table.Far {
		displaced += int(table.Far[i].displaced.Load())
	}
	t.Logf("of %d keys, %d are not near, and %d not in their first far bucket", 2*len(table.Records), homes, displaced)
	if homes == 0 || displaced == 0 {
		t.Error("not all kinds of place were in use")
	}
	for number := range table.Records {
		r := &table.Records[number]
		table.unpoint(&r.Orig, uint32(number))
		table.unpoint(&r.Reply, uint32(number)|bpf.Reverse)
	}
	for _, buckets := range [][]Bucket{table.Near, table.Far} {
		for i := range buckets {
			b := &buckets[i]
			for s := range b.slots {
				if b.slots[s].Load() != 0 || b.displaced.Load() != 0 || b.lock.Load() != 0 {
					t.Fatalf("bucket %d is not empty: %+v", i, b)
				}
			}
		}
	}
}
