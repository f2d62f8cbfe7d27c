package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// linuxHook is a program on a device.
type linuxHook struct {
	places   *Places
	name     string // of the device
	ifindex  int
	redirect uint32 // flags of bpf_redirect by which frames leave by the device

	program place
	first   keptFirst

	// A TAP has neither: its reader receives what its program lets go on.
	socket   *host.PacketSocket
	slowPath *slowTAP
}

// redirectIngress is BPF_F_INGRESS: into the device's receive side.
const redirectIngress = 1

// Hook puts the program of an iface on its device. Linux sends what a segment sends out by
// the segment's TAP, so a TAP has its program on that side. Frames of all other devices
// come in.
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

func (h *linuxHook) Target() (ifindex int, flags uint32) { return h.ifindex, h.redirect }

func (h *linuxHook) Slow() (iface.Device, int) {
	if h.slowPath == nil {
		return nil, 0
	}
	return h.slowPath, h.slowPath.ifindex
}

func (h *linuxHook) Listen(on bool) error {
	if h.socket == nil {
		return nil
	}
	return h.socket.Listen(on)
}

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
