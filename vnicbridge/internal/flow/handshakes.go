package flow

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// maxHandshakes bounds the number of remembered handshakes, which take about 40 MiB. Beyond
// it the oldest are forgotten.
const maxHandshakes = 1 << 16

// Handshakes remembers half-open flows from the network that were evicted after the server
// had answered. In a flood of SYNs, a client may be so far away that its flow is evicted
// before its ACK arrives. The ACK then restores the flow (L2).
type Handshakes struct {
	mu    lockorder.Mutex[lockorder.Handshakes]
	flows BoundedMap[Key, halfOpenFlow] // by original key
}

type halfOpenFlow struct {
	in, out  *iface.Iface
	Reply    packet.Tuple
	flags    uint32
	acked    uint32 // what the server has acknowledged
	lastSeen uint32
}

// add remembers a flow that is evicted, if it is half-open and its server has answered, and not
// the bridge.
func (h *Handshakes) add(f *Flow) {
	flags := f.Flags.Load()
	if f.In.NIC == nil || flags&(Accepted|Greeted) != Accepted || classOf(f.Orig.Proto, flags) != ClassHalfOpen {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key, _ := f.Keys()
	h.flows.Put(key, halfOpenFlow{f.In, f.Out, f.Reply, flags, f.Sent[Reverse].Ack.Load(), f.LastSeen.Load()}, maxHandshakes)
}

// Take returns the evicted flow with an original key, and forgets it.
func (h *Handshakes) Take(key Key) (halfOpenFlow, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.flows.remove(key)
	return h.flows.Get(key)
}

// GoesOn tells whether a packet that comes in at an iface can still complete the handshake.
func (h *halfOpenFlow) GoesOn(in *iface.Iface, now int64) bool {
	return h.in == in && !h.out.Closed.Load() && since(h.lastSeen, now) < TimeWait
}

// Resumed returns the evicted flow again, whose handshake packet p completes. The caller
// sets its Reply.
func (h *halfOpenFlow) Resumed(p *packet.Packet, now int64) *Flow {
	f := New(h.in, h.out, p, now)
	f.Flags.Store(h.flags)
	f.Sent[Reverse].Ack.Store(h.acked)
	return f
}
