package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// linuxHook is the program of an iface, attached to the iface's device.
type linuxHook struct {
	places   *Places
	name     string // of the device
	ifindex  int
	redirect uint32 // the flags of bpf_redirect to the device

	program place
	first   keptFirst

	// A TAP has neither, because its reader receives the frames that its program lets pass.
	socket   *host.PacketSocket
	slowPath *slowTAP
}

// redirectIngress is BPF_F_INGRESS: the frame comes in at the device.
const redirectIngress = 1

// Hook puts the program of an iface on the iface's device. Frames from a segment go out by
// the segment's TAP, so a TAP has its program at egress. All other devices have it at
// ingress. If the kernel has no tcx and clsact is false, the error is ebpf.ErrNotSupported.
func (s *Places) Hook(p *iface.Iface, program *ebpf.Program, clsact bool) (Hook, error) {
	h := &linuxHook{places: s, name: p.Name}
	side := ebpf.AttachTCXIngress
	switch d := p.Device().(type) {
	case *host.TAP:
		h.ifindex, h.redirect, side = d.Ifindex, redirectIngress, ebpf.AttachTCXEgress
	case *host.Veth:
		h.socket = d.PacketSocket
	case *host.OwnedNIC:
		h.socket = d.PacketSocket
	}
	var err error
	if h.socket != nil {
		h.ifindex = h.socket.Ifindex
		if h.slowPath, err = makeSlowTAP(s.Machine); err != nil {
			return nil, err
		}
	}
	h.program, err = s.Put(h.ifindex, side, program, carries, clsact)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching the BPF program: %w", err), h.Close())
	}
	s.hooks.Store(h, nil)
	return h, nil
}

// Target implements [Hook].
func (h *linuxHook) Target() (ifindex int, flags uint32) { return h.ifindex, h.redirect }

// Slow implements [Hook].
func (h *linuxHook) Slow() (iface.Device, int) {
	if h.slowPath == nil {
		return nil, 0
	}
	return h.slowPath, h.slowPath.ifindex
}

// Listen implements [Hook].
func (h *linuxHook) Listen(on bool) error {
	if h.socket == nil {
		return nil
	}
	return h.socket.Listen(on)
}

// Close removes the program and the TAP device of the slow path.
func (h *linuxHook) Close() error {
	h.places.hooks.Delete(h)
	var errs []error
	if h.program != nil {
		errs = append(errs, h.program.Close())
	}
	if h.slowPath != nil {
		errs = append(errs, h.slowPath.Close())
	}
	return errors.Join(errs...)
}
