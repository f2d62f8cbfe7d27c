package iface

import (
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Outbox collects the frames that one received batch causes to be sent, so that each device
// sends its share in one call. It has no lock.
type Outbox struct {
	boxes    []box
	expected []*Iface
}

type box struct {
	to     *Iface
	frames []packet.Frame
}

// Put adds a frame that Flush sends by an iface. The frame's bytes must not change until
// then.
func (o *Outbox) Put(to *Iface, f packet.Frame) {
	for i := range o.boxes {
		if o.boxes[i].to == to {
			o.boxes[i].frames = append(o.boxes[i].frames, f)
			return
		}
	}
	o.boxes = append(o.boxes, box{to, []packet.Frame{f}})
}

// Flush sends all frames. It keeps the memory for the next batch, except that of closed
// ifaces.
func (o *Outbox) Flush() {
	kept := o.boxes[:0]
	for _, b := range o.boxes {
		if len(b.frames) > 0 {
			b.to.Transmit(b.frames)
		}
		if !b.to.Closed.Load() {
			kept = append(kept, box{b.to, b.frames[:0]})
		}
	}
	clear(o.boxes[len(kept):])
	o.boxes = kept
}

// Expect tells that a frame of the outbox makes who is behind an iface answer.
func (o *Outbox) Expect(from *Iface) {
	if !slices.Contains(o.expected, from) {
		o.expected = append(o.expected, from)
	}
}

// Expected returns from whom answers are expected since the last call.
func (o *Outbox) Expected() (from []*Iface) {
	from, o.expected = o.expected, nil
	return from
}
