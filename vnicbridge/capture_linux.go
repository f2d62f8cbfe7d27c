package vnicbridge

import "errors"

// deviceCapture captures on a device by programs, one for each direction.
type deviceCapture []frameSource

// openSource captures on a device that a machine has made or opened: by programs. If the
// kernel refuses programs, and packets are carried in userspace for that reason, a packet
// socket captures instead. Either sees frames as they come in, and as they leave.
func openSource(on *places, d device, o sourceOptions) (frameSource, error) {
	_, pair := d.(*veth) // what goes out by its outer end goes into the segment
	of := ringOptions{sourceOptions: o, ns: on.machine.ns, ifindex: d.(indexed).index(), reversed: pair}
	programs, err := openPrograms(on, of)
	switch {
	case err == nil:
		return programs, nil
	case o.kernel:
		return nil, err
	}
	ring, err := openPacketRing(of)
	if err != nil {
		return nil, err
	}
	return ring, nil
}

// indexed is a device that the kernel knows by a number.
type indexed interface{ index() int }

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
