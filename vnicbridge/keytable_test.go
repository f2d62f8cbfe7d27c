package vnicbridge

import (
	"math/rand/v2"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// Row L1: as many keys as the records of a full table can have find a place, are
// found again, and leave nothing behind.
func TestKeyTable(t *testing.T) {
	const maxFlows = 1 << 16
	near, far := bucketsFor(maxFlows)
	table := keyTable{
		near: make([]bucket, near), far: make([]bucket, far), records: make([]bpf.FlowRecord, recordsFor(maxFlows)),
		secret: [2]uint64{rand.Uint64(), rand.Uint64()},
	}
	client := func(number int) bpf.FlowKey {
		return bpf.FlowKey{Src: uint32(number >> 8), Dst: 7, Sport: uint16(number & 255), Dport: 80, Port: 1, Proto: 6}
	}
	for number := range table.records {
		r := &table.records[number]
		r.Orig, r.Reply = client(number), client(number)
		r.Reply.Port = 2
		if !table.point(&r.Orig, uint32(number)) || !table.point(&r.Reply, uint32(number)|bpf.Reverse) {
			t.Fatalf("there is no room for the keys of record %d of %d", number, len(table.records))
		}
		if table.point(&r.Orig, uint32(number+1)) {
			t.Fatalf("the key of record %d has two values", number)
		}
	}
	homes, displaced := 0, 0
	for number := range table.records {
		r := &table.records[number]
		if table.value(&r.Orig) != uint32(number) || table.value(&r.Reply) != uint32(number)|bpf.Reverse {
			t.Fatalf("the keys of record %d are not found", number)
		}
	}
	for i := range table.near {
		homes += int(table.near[i].displaced.Load())
	}
	for i := range table.far {
		displaced += int(table.far[i].displaced.Load())
	}
	t.Logf("of %d keys, %d are not near, and %d not in their first far bucket", 2*len(table.records), homes, displaced)
	if homes == 0 || displaced == 0 {
		t.Error("not all kinds of place were in use")
	}
	for number := range table.records {
		r := &table.records[number]
		table.unpoint(&r.Orig, uint32(number))
		table.unpoint(&r.Reply, uint32(number)|bpf.Reverse)
	}
	for _, buckets := range [][]bucket{table.near, table.far} {
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
