package flow

import (
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// maxHandshakes bounds the memory of handshakes, some 40 MiB. Beyond it the oldest are
// forgotten.
const maxHandshakes = 1 << 16

// Handshakes remembers flows from the network that had to make room between the
// server's answer and the client's. In a flood of SYNs such a client is one that is
// farther away than the flood takes to fill the table: when it does answer, its flow
// goes on (L2).
type Handshakes struct {
	mu    sync.Mutex
	flows BoundedMap[Key, halfOpenFlow] // by their original key
}

type halfOpenFlow struct {
	in, out  *iface.Iface
	Reply    packet.Tuple
	flags    uint32
	lastSeen uint32
}

// add remembers a flow that must make room, if it is such a one.
func (h *Handshakes) add(f *Flow) {
	flags := f.Flags.Load()
	if f.In.NIC == nil || flags&Accepted == 0 || classOf(f.Orig.Proto, flags) != ClassHalfOpen {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key, _ := f.Keys()
	h.flows.Put(key, halfOpenFlow{f.In, f.Out, f.Reply, flags, f.LastSeen.Load()}, maxHandshakes)
}

// Take returns what is remembered under a key, and forgets it.
func (h *Handshakes) Take(key Key) (halfOpenFlow, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.flows.remove(key)
	return h.flows.Get(key)
}

// GoesOn tells whether the handshake can still be completed by what comes in at an iface.
func (h *halfOpenFlow) GoesOn(in *iface.Iface, now int64) bool {
	return h.in == in && !h.out.Closed.Load() && since(h.lastSeen, now) < TimeWait
}

// Resumed is the flow whose handshake a packet completes.
func (h *halfOpenFlow) Resumed(p *packet.Packet, now int64) *Flow {
	f := New(h.in, h.out, p, now)
	f.Flags.Store(h.flags &^ (Acked << Reverse)) // what was acknowledged is forgotten
	return f
}
