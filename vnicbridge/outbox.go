package vnicbridge

// outbox gathers the frames that leave because of one received batch, so that each device
// sends its share in one call.
type outbox struct {
	boxes []box
}

type box struct {
	to     *port
	frames []frame
}

func (o *outbox) put(to *port, f frame) {
	for i := range o.boxes {
		if o.boxes[i].to == to {
			o.boxes[i].frames = append(o.boxes[i].frames, f)
			return
		}
	}
	o.boxes = append(o.boxes, box{to, []frame{f}})
}

// flush sends all and keeps the boxes of living ports for the next batch.
func (o *outbox) flush() {
	kept := o.boxes[:0]
	for _, b := range o.boxes {
		if len(b.frames) > 0 {
			b.to.transmit(b.frames)
		}
		if !b.to.closed.Load() {
			kept = append(kept, box{b.to, b.frames[:0]})
		}
	}
	clear(o.boxes[len(kept):])
	o.boxes = kept
}
