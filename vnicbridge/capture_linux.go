package vnicbridge

import (
	"errors"
	"fmt"
)

// deviceCapture captures on a device: by programs, one for each direction. Where
// there can be none, because packets are carried in userspace for want of them, it is
// a packet socket. Either sees what comes in as it came, and what goes out as it
// leaves.
type deviceCapture []frameSource

// openCapture copies the frames that pass a device; kernel tells whether a kernel data path
// carries them. memory is how many bytes may wait.
func openCapture(on *places, p *capturePoint, snaplen, memory int, kernel bool) (frameSource, error) {
	o := ringOptions{ns: on.machine.ns, filter: p.program, snaplen: snaplen, memory: memory}
	switch d := p.device.(type) {
	case *tap:
		o.ifindex = d.ifindex
	case *veth: // what goes out by the outer end goes into the segment
		o.ifindex, o.reversed = d.outer.ifindex, true
	case *ownedNIC:
		o.ifindex = d.ifindex
	}
	var source frameSource
	source, err := openPrograms(on, o)
	if err != nil && !kernel {
		source, err = openPacketRing(o)
	}
	if err != nil {
		return nil, fmt.Errorf("capturing on device %s: %w", p.name, err)
	}
	return source, nil
}

func openPrograms(on *places, o ringOptions) (c deviceCapture, err error) {
	for _, ingress := range []bool{true, false} {
		ring, err := openProgramRing(on, o, ingress)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c = append(c, ring)
	}
	return c, nil
}

func (c deviceCapture) take(visit func(*capturedFrame) bool) {
	more := true
	for _, source := range c {
		if more {
			source.take(func(f *capturedFrame) bool {
				more = visit(f)
				return more
			})
		}
	}
}

func (c deviceCapture) grant(bytes int) {
	for _, source := range c {
		source.grant(bytes / len(c))
	}
}

func (c deviceCapture) drops() (n uint64) {
	for _, source := range c {
		n += source.drops()
	}
	return n
}

func (c deviceCapture) close() error {
	var errs []error
	for _, source := range c {
		errs = append(errs, source.close())
	}
	return errors.Join(errs...)
}
