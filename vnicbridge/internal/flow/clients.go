package flow

import (
	"math"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// ClientCounts says how many flows clients have at segments that limit them: a count-min sketch
// (Cormode and Muthukrishnan, 2005), so that its memory is bounded and no entry is ever removed.
// A client has one count in each row, by a hash with a secret key. The smallest of them is its
// own, or more if other clients share all four. The layout is that of struct client_counts of
// bpf/types.h.
type ClientCounts struct{ row [clientRows]atomic.Int32 }

// The size of the sketch. With as many flows as there are counts in a row, a client's count is
// three too high once in 25,000 times.
const (
	clientRows   = 4
	clientCounts = 1 << 16
)

// clientLimit returns how many flows the opener of flows between two ifaces may have there. 0
// means any number: only clients from the network are limited.
func (t *Table) clientLimit(in, out *iface.Iface) int32 {
	if in == nil || out == nil || in.NIC == nil {
		return 0
	}
	l, _ := t.limitsAt(out)
	if l == nil {
		return 0
	}
	return int32(l.PerClient.Load())
}

// clientHasRoom tells whether the client that opens a flow may have another one.
func (t *Table) clientHasRoom(f *Flow) bool {
	most := t.clientLimit(f.In, f.Out)
	return most == 0 || t.flowsOfClient(t.clientHash(f.Orig.Src, f.Out.Index)) < most
}

// clientHash places the counts of a client at a VNIC: client_hash in bpf/flowlimit.h. In IPv6
// the client is its /64.
func (t *Table) clientHash(client packet.Addr, vnic uint32) uint64 {
	of := uint64(packet.BE32(client))
	if client.IsIPv6() {
		of = packet.Halves(client)[0]
	}
	h := (of ^ t.Secret[0]) * 0x9e3779b97f4a7c15
	h = (h ^ h>>32 ^ uint64(vnic) ^ t.Secret[1]) * 0xd6e8feb86659fd93
	return h ^ h>>32
}

// clientCount returns a client's count in a row.
func (t *Table) clientCount(hash uint64, row uint32) *atomic.Int32 {
	return &t.Clients[(uint32(hash)+row*uint32(hash>>32))&(clientCounts-1)].row[row]
}

// flowsOfClient returns how many flows the client with a hash has, at most.
func (t *Table) flowsOfClient(hash uint64) int32 {
	least := int32(math.MaxInt32)
	for row := range uint32(clientRows) {
		least = min(least, t.clientCount(hash, row).Load())
	}
	return least
}

func (t *Table) addClient(hash uint64, n int32) {
	for row := range uint32(clientRows) {
		t.clientCount(hash, row).Add(n)
	}
}

// countClient counts the flow of a record among those of its client, unless it is closing or
// counted already, or its client has no limit.
func (t *Table) countClient(number uint32) {
	r := &t.Records[number]
	orig, reply := load(&r.Orig), load(&r.Reply)
	in, out := t.IfaceOf(uint32(orig.key().Iface)), t.IfaceOf(uint32(reply.key().Iface))
	if loadOf(t.classAt(number)) == 0 || t.clientLimit(in, out) == 0 || stateOfRecord(r).Flags.Or(Counted)&Counted != 0 {
		return
	}
	t.addClient(t.clientHash(t.clientOf(number), out.Index), 1)
}

// classAt returns the class of the flow of a record.
func (t *Table) classAt(number uint32) Class {
	r := &t.Records[number]
	orig := load(&r.Orig)
	return classOf(config.Protocol(orig.key().Proto), stateOfRecord(r).Flags.Load())
}

// uncountClient takes the flow of a record, which is over or closing, from those of its client
// at a VNIC. flags are the flow's.
func (t *Table) uncountClient(number, vnic, flags uint32) {
	if flags&Counted == 0 || stateOfRecord(&t.Records[number]).Flags.And(^uint32(Counted))&Counted == 0 {
		return
	}
	t.addClient(t.clientHash(t.clientOf(number), vnic), -1)
}

// countClients counts all flows of a segment that limits its clients from now on, by the number
// of its limits.
func (t *Table) countClients(number uint32) {
	for record := range t.Used() {
		if t.isOf(&t.Records[record].Reply, number) && !t.superseded(record) {
			t.countClient(record)
		}
	}
}
