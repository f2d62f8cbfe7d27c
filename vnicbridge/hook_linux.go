package vnicbridge

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// linuxHook is a program on a device.
type linuxHook struct {
	places   *places
	name     string // of the device
	ifindex  int
	redirect uint32 // flags of bpf_redirect by which frames leave by the device

	program place
	first   keptFirst

	// A TAP has neither: its reader receives what its program lets go on.
	socket   *packetSocket
	slowPath *slowTAP
}

// redirectIngress is BPF_F_INGRESS: into the device's receive side.
const redirectIngress = 1

// hook puts the program of a port on its device. Linux sends what a segment sends out by
// the segment's TAP, so a TAP has its program on that side. Frames of all other devices
// come in.
func (s *places) hook(p *port, program *ebpf.Program, clsact bool) (hook, error) {
	h := &linuxHook{places: s, name: p.name}
	side := ebpf.AttachTCXIngress
	switch d := p.device().(type) {
	case *tap:
		h.ifindex, h.redirect, side = d.ifindex, redirectIngress, ebpf.AttachTCXEgress
	case *veth:
		h.socket = d.packetSocket
	case *ownedNIC:
		h.socket = d.packetSocket
	}
	var err error
	if h.socket != nil {
		h.ifindex = h.socket.ifindex
		if h.slowPath, err = makeSlowTAP(s.machine); err != nil {
			return nil, err
		}
	}
	h.program, err = s.put(h.ifindex, side, program, carries, clsact)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching the BPF program: %w", err), h.close())
	}
	s.hooks.Store(h, nil)
	return h, nil
}

func (h *linuxHook) target() (ifindex int, flags uint32) { return h.ifindex, h.redirect }

func (h *linuxHook) slow() (device, int) {
	if h.slowPath == nil {
		return nil, 0
	}
	return h.slowPath, h.slowPath.ifindex
}

func (h *linuxHook) listen(on bool) error {
	if h.socket == nil {
		return nil
	}
	return h.socket.listen(on)
}

func (h *linuxHook) close() error {
	h.places.hooks.Delete(h)
	var errs []error
	if h.program != nil {
		errs = append(errs, h.program.Close())
	}
	if h.slowPath != nil {
		errs = append(errs, h.slowPath.close())
	}
	return errors.Join(errs...)
}
