package vnicbridge

import (
	"errors"
	"fmt"
)

// deviceCapture captures on a device: by programs where programs carry the packets,
// else by a packet socket, which takes nothing that a user namespace does not have.
// Either sees what comes in as it came, and what goes out as it leaves.
type deviceCapture []frameSource

func (m *linuxMachine) capture(p *capturePoint, snaplen, memory int, kernel bool) (frameSource, error) {
	o := ringOptions{ns: m.ns, filter: p.program, snaplen: snaplen, memory: memory}
	switch d := p.device.(type) {
	case *tap:
		o.ifindex = d.ifindex
	case *veth: // what goes out by the outer end goes into the segment
		o.ifindex, o.reversed = d.outer.ifindex, true
	case *ownedNIC:
		o.ifindex = d.ifindex
	}
	var c deviceCapture
	for _, open := range m.sources(o, kernel) {
		source, err := open()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("capturing on device %s: %w", p.name, err), c.close())
		}
		c = append(c, source)
	}
	return c, nil
}

// sources are what a device's frames come from.
func (m *linuxMachine) sources(o ringOptions, kernel bool) (open []func() (frameSource, error)) {
	if !kernel {
		return append(open, func() (frameSource, error) { return openPacketRing(o) })
	}
	for _, ingress := range []bool{true, false} {
		open = append(open, func() (frameSource, error) { return m.openProgramRing(o, ingress) })
	}
	return open
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
