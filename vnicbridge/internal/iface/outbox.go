package iface

import "github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"

// Outbox gathers the frames that leave because of one received batch, so that each device
// sends its share in one call.
type Outbox struct {
	boxes []box
}

type box struct {
	to     *Iface
	frames []packet.Frame
}

func (o *Outbox) Put(to *Iface, f packet.Frame) {
	for i := range o.boxes {
		if o.boxes[i].to == to {
			o.boxes[i].frames = append(o.boxes[i].frames, f)
			return
		}
	}
	o.boxes = append(o.boxes, box{to, []packet.Frame{f}})
}

// Flush sends all and keeps the boxes of living ifaces for the next batch.
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
