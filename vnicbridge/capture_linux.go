package vnicbridge

import (
	"errors"
	"fmt"
)

// deviceCapture captures on a device: by a packet socket and, for what that does not
// see, by a program.
//
// A packet socket sees what comes in before any program does, and what goes out
// after all of them. On the kernel data path what a segment sends by a TAP is
// redirected before the socket could see it.
type deviceCapture []frameSource

func (m *linuxMachine) capture(p *capturePoint, snaplen, memory int, kernel bool) (frameSource, error) {
	o := ringOptions{ns: m.ns, program: p.program, snaplen: snaplen, memory: memory}
	switch d := p.device.(type) {
	case *tap:
		o.ifindex, o.inwardOnly = d.ifindex, kernel
	case *veth: // what goes out by the outer end goes into the segment
		o.ifindex, o.reversed = d.outer.ifindex, true
	case *ownedNIC:
		o.ifindex = d.ifindex
	}
	var c deviceCapture
	ring, err := openPacketRing(o)
	if err == nil {
		c = append(c, ring)
	}
	if err == nil && o.inwardOnly {
		var outward *outwardRing
		if outward, err = m.openOutwardRing(o); err == nil {
			c = append(c, outward)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("capturing on device %s: %w", p.name, err), c.close())
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
