package vnicbridge

import "sync"

// maxHandshakes bounds the memory of handshakes, some 40 MiB. Beyond it the oldest are
// forgotten.
const maxHandshakes = 1 << 16

// handshakes remembers flows from the network that had to make room between the
// server's answer and the client's. In a flood of SYNs such a client is one that is
// farther away than the flood takes to fill the table: when it does answer, its flow
// goes on (L2).
type handshakes struct {
	mu    sync.Mutex
	flows boundedMap[flowKey, halfOpenFlow] // by their original key
}

type halfOpenFlow struct {
	in, out  *port
	reply    tuple
	flags    uint32
	lastSeen uint32
}

// add remembers a flow that must make room, if it is such a one.
func (h *handshakes) add(f *flow) {
	flags := f.flags.Load()
	if f.in.nic == nil || flags&flowAccepted == 0 || classOf(f.orig.proto, flags) != classHalfOpen {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key, _ := f.keys()
	h.flows.put(key, halfOpenFlow{f.in, f.out, f.reply, flags, f.lastSeen.Load()}, maxHandshakes)
}

// take returns what is remembered under a key, and forgets it.
func (h *handshakes) take(key flowKey) (halfOpenFlow, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.flows.remove(key)
	return h.flows.get(key)
}

// goesOn tells whether the handshake can still be completed by what comes in at a port.
func (h *halfOpenFlow) goesOn(in *port, now int64) bool {
	return h.in == in && !h.out.closed.Load() && since(h.lastSeen, now) < timeWait
}

// resumed is the flow whose handshake a packet completes.
func (h *halfOpenFlow) resumed(p *packet, now int64) *flow {
	f := newFlow(h.in, h.out, p, now)
	f.flags.Store(h.flags &^ (flowAcked << reverse)) // what was acknowledged is forgotten
	return f
}
