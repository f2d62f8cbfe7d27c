package vnicbridge

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"
)

// captureBatch is frames of all devices, in memory that is used again.
type captureBatch struct {
	frames []capturedFrame
	memory []byte
}

// take takes the frames that wait at the devices. Each device has an equal share of what
// all captures may take by now.
func (c *Capture) take() {
	now := time.Now()
	c.batch.frames, c.batch.memory = c.batch.frames[:0], c.batch.memory[:0]
	for i, point := range c.points {
		share := int(c.budget.bytes.TokensAt(now)) / (len(c.points) - i)
		used := 0
		point.source.take(func(f *capturedFrame) bool {
			f.point = i
			cost := CaptureFrameCost + len(f.data)
			if used+cost > share || isNext(f, now) {
				return false
			}
			used += cost
			c.batch.add(f)
			return true
		})
		c.budget.bytes.AllowN(now, used)
	}
	c.grant(now)
	slices.SortStableFunc(c.batch.frames, func(a, b capturedFrame) int { return cmp.Compare(a.time, b.time) })
}

// grant lets each device keep its share of what may be taken at the next tick.
func (c *Capture) grant(now time.Time) {
	share := int(c.budget.bytes.TokensAt(now)) / len(c.points)
	for _, point := range c.points {
		point.source.grant(share)
	}
}

// isNext tells whether a frame passed after a batch was begun. The frame is left for the
// next batch, because older frames of other devices may come there. A frame that seems to
// be a tick or more ahead is not left: somebody has set the clock.
func isNext(f *capturedFrame, began time.Time) bool {
	after := time.Duration(f.time - began.UnixNano())
	return after > 0 && after < captureTick
}

// add copies a frame. Memory that grows leaves what was copied before where it is.
func (b *captureBatch) add(f *capturedFrame) {
	start := len(b.memory)
	b.memory = append(b.memory, f.data...)
	copied := *f
	copied.data = b.memory[start:len(b.memory):len(b.memory)]
	b.frames = append(b.frames, copied)
}

// write writes the frames of the batch that are wanted.
func (c *Capture) write() {
	for i := range c.batch.frames {
		f := &c.batch.frames[i]
		if c.complete() {
			break
		}
		if c.wants(f) {
			c.file.packet(f)
			c.points[f.point].delivered++
			c.count++
		}
	}
	c.batch.frames = c.batch.frames[:0]
}

// wants tells whether a frame is in the capture. At devices other than the target, only
// frames of the target's flows are.
func (c *Capture) wants(f *capturedFrame) bool {
	p := c.points[f.point].port
	fl := c.flowOf(p, f)
	if fl == nil {
		return p == c.target && (!c.opts.Client.IsValid() || c.names(f))
	}
	return (fl.in == c.target || fl.out == c.target) &&
		(!c.opts.Client.IsValid() || c.opts.Client.Contains(fl.orig.src.netip()))
}

// flowOf finds the flow of a frame. The table has the tuples of what comes in at a device;
// so the tuple of a frame that goes out by the device is reversed first.
func (c *Capture) flowOf(p *port, f *capturedFrame) *flow {
	if f.tagged || etherTypeOf(f.data) != etherIPv4 {
		return nil
	}
	t, ok := flowTuple(f.data[ethHeaderLen:])
	if !ok {
		return nil
	}
	if f.inbound != (p.nic != nil) {
		t = t.reversed()
	}
	fl, _ := c.lookup(flowKey{t, p.index})
	return fl
}

func etherTypeOf(eth []byte) uint16 {
	if len(eth) < ethHeaderLen {
		return 0
	}
	return binary.BigEndian.Uint16(eth[12:])
}

// flowTuple reads the tuple of the flow that a packet is of, or an error about it. The
// packet may be cut short.
func flowTuple(ip []byte) (t tuple, ok bool) {
	var p packet
	if p.parseHeader(ip) != keep || p.later {
		return t, false
	}
	switch p.proto {
	case TCP, UDP:
		if len(p.l4) < 4 {
			return t, false
		}
		p.setPorts()
	case ICMP:
		if p.parseICMP() != keep {
			return t, false
		}
		if p.icmpError {
			quoted, ok := parseQuote(p.l4[icmpHeaderLen:])
			return quoted.reversed(), ok // it goes the way of the answers
		}
	default:
		return t, false
	}
	return p.tuple, true
}

// names tells whether a frame of no flow is from or to the client's network.
func (c *Capture) names(f *capturedFrame) bool {
	at := map[uint16][2]int{etherIPv4: {12, 16}, etherARP: {14, 24}}[etherTypeOf(f.data)]
	for _, offset := range at {
		if offset += ethHeaderLen; offset > ethHeaderLen && len(f.data) >= offset+4 &&
			c.opts.Client.Contains(addrFrom4(f.data[offset:]).netip()) {
			return true
		}
	}
	return false
}
