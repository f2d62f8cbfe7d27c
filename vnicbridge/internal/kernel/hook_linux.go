package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// linuxHook is the program of an iface, attached to the iface's device.
type linuxHook struct {
	places   *Places
	name     string // of the device
	ifindex  int
	redirect uint32     // the flags of bpf_redirect to the device
	pair     *host.Veth // the device, if it is one

	program place
	first   keptFirst

	// A TAP has neither, because its reader receives the frames that its program lets pass.
	socket   *host.PacketSocket
	slowPath *slowTAP
}

// redirectIngress is BPF_F_INGRESS: the frame comes in at the device.
const redirectIngress = 1

// leavesBy tells whether frames from a segment leave by a device. They do so by a TAP, which
// therefore has its program at egress. They come in at all other devices.
func leavesBy(d iface.Device) bool {
	_, tap := d.(*host.TAP)
	return tap
}

// Hook puts the program of an iface on the iface's device. If the kernel has no tcx and clsact is false, the error is ebpf.ErrNotSupported.
func (s *Places) Hook(p *iface.Iface, program *ebpf.Program, clsact bool) (Hook, error) {
	h := &linuxHook{places: s, name: p.Name}
	side := ebpf.AttachTCXIngress
	if leavesBy(p.Device()) {
		side = ebpf.AttachTCXEgress
	}
	switch d := p.Device().(type) {
	case *host.TAP:
		h.ifindex, h.redirect = d.Ifindex, redirectIngress
	case *host.Veth:
		h.socket, h.pair = d.PacketSocket, d
	case *host.OwnedNIC:
		h.socket = d.PacketSocket
	case *host.RemoteDevice:
		h.socket = d.PacketSocket
	}
	var err error
	if h.socket != nil {
		h.ifindex = h.socket.Ifindex
		if h.slowPath, err = slowTAPOf(s.Machine, h.name); err != nil {
			return nil, err
		}
	}
	h.program, err = s.Put(s.Machine.NS, h.ifindex, side, program, carries, clsact)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching the BPF program: %w", err), h.Close())
	}
	s.hooks.Store(h, nil)
	return h, nil
}

// Target implements [Hook].
func (h *linuxHook) Target() (ifindex int, flags uint32) {
	if h.pair != nil && h.pair.Enterable() {
		return h.ifindex, bpf.ToPeer
	}
	return h.ifindex, h.redirect
}

// Slow implements [Hook].
func (h *linuxHook) Slow() (iface.Device, int) {
	if h.slowPath == nil {
		return nil, 0
	}
	return h.slowPath, h.slowPath.ifindex
}

// Files implements [Hook].
func (h *linuxHook) Files() (succession.Files, error) {
	if h.slowPath == nil {
		return nil, nil
	}
	return h.slowPath.Files(slowFile(h.name))
}

// LinkDescriptor implements [Hook].
func (h *linuxHook) LinkDescriptor() (fd int, ok bool) {
	program, ok := h.program.(*tcxProgram)
	if !ok {
		return -1, false
	}
	l, ok := program.link.(interface{ FD() int }) // a [link.RawLink]
	if !ok {
		return -1, false
	}
	return l.FD(), true
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
