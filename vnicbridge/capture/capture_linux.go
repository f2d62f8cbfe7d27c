package capture

import (
	"errors"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
)

// DeviceCapture captures on a device by programs, one for each direction.
type DeviceCapture []FrameSource

// OpenSource captures on a device that a machine has made or opened, by programs. If the
// kernel refuses programs and userspace carries, a packet socket captures instead. Both see
// frames as they come in, and as they leave.
func OpenSource(on *kernel.Places, d iface.Device, o SourceOptions) (FrameSource, error) {
	of := RingOptions{SourceOptions: o, NS: on.Machine.NS, Ifindex: d.(indexed).Index()}
	pair, _ := d.(*host.Veth)
	_, remote := d.(*host.RemoteDevice)
	of.reversed = pair != nil || remote // a frame that leaves by the outer end, or the device, goes into the segment
	programs, err := openPrograms(on, of, pair)
	switch {
	case err == nil:
		return programs, nil
	case o.kernel:
		return nil, err
	}
	ring, err := OpenPacketRing(of)
	if err != nil {
		return nil, err
	}
	return ring, nil
}

// indexed is a device that the kernel knows by a number.
type indexed interface{ Index() int }

// openPrograms captures what comes in at a device, and what leaves by it. Of a pair, it captures
// what comes in at each end, because a frame into the segment may pass by the outer end.
func openPrograms(on *kernel.Places, o RingOptions, pair *host.Veth) (c DeviceCapture, err error) {
	other := o
	if pair != nil {
		other.NS, other.Ifindex = pair.InnerEnd()
		other.reversed = false
	}
	for _, side := range []struct {
		RingOptions
		ingress bool
	}{{o, true}, {other, pair != nil}} {
		ring, err := openProgramRing(on, side.RingOptions, side.ingress)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c = append(c, ring)
	}
	return c, nil
}

// Take implements [FrameSource].
func (c DeviceCapture) Take(visit func(*CapturedFrame) bool) {
	more := true
	for _, source := range c {
		if more {
			source.Take(func(f *CapturedFrame) bool {
				more = visit(f)
				return more
			})
		}
	}
}

// Grant implements [FrameSource]. Each direction gets half.
func (c DeviceCapture) Grant(bytes int) {
	for _, source := range c {
		source.Grant(bytes / len(c))
	}
}

func (c DeviceCapture) drops() (n uint64) {
	for _, source := range c {
		n += source.drops()
	}
	return n
}

// Close removes the programs.
func (c DeviceCapture) Close() error {
	var errs []error
	for _, source := range c {
		errs = append(errs, source.Close())
	}
	return errors.Join(errs...)
}
