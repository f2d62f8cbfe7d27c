package vnicbridge

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cilium/ebpf"
)

// newFastPath makes the kernel data path of this machine.
func (m *linuxMachine) newFastPath(slow *forwarder, maxFlows int, key hashKey, log *slog.Logger) (fastPath, error) {
	if err := require(datapathCapabilities); err != nil {
		return nil, err
	}
	return newKernelPath(slow, maxFlows, key, log, m.hook)
}

// hookable is a device that a program can be put on.
type hookable interface {
	// place is the device, the side of it that the program is for, and how
	// bpf_redirect sends what leaves by it.
	place() (ifindex int, attach ebpf.AttachType, redirect uint32)
	// listen lets the device receive by itself, or not.
	listen(bool) error
}

// linuxHook is a program on a device.
type linuxHook struct {
	machine  *linuxMachine
	device   hookable
	name     string
	program  place
	slowPath *slowTAP // nil for a TAP: what goes on reaches its reader
	first    keptFirst
}

func (m *linuxMachine) hook(p *port, program *ebpf.Program, clsact bool) (hook, error) {
	device := p.device().(hookable)
	ifindex, attach, _ := device.place()
	h := &linuxHook{machine: m, device: device, name: p.name}
	var err error
	if attach == ebpf.AttachTCXIngress {
		if h.slowPath, err = m.makeSlowTAP(); err != nil {
			return nil, err
		}
	}
	h.program, err = m.putProgram(ifindex, attach, program, carries, clsact)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attaching the BPF program: %w", err), h.close())
	}
	m.hooks.Store(h, nil)
	return h, nil
}

func (h *linuxHook) target() (ifindex int, flags uint32) {
	ifindex, _, flags = h.device.place()
	return ifindex, flags
}

func (h *linuxHook) slow() (device, int) {
	if h.slowPath == nil {
		return nil, 0
	}
	return h.slowPath, h.slowPath.ifindex
}

func (h *linuxHook) listen(on bool) error { return h.device.listen(on) }

func (h *linuxHook) close() error {
	h.machine.hooks.Delete(h)
	var errs []error
	if h.program != nil {
		errs = append(errs, h.program.Close())
	}
	if h.slowPath != nil {
		errs = append(errs, h.slowPath.close())
	}
	return errors.Join(errs...)
}

// redirectIngress is BPF_F_INGRESS: into the device's receive side.
const redirectIngress = 1

func (t *tap) place() (int, ebpf.AttachType, uint32) {
	return t.ifindex, ebpf.AttachTCXEgress, redirectIngress
}

func (t *tap) listen(bool) error { return nil }

func (s *packetSocket) place() (int, ebpf.AttachType, uint32) {
	return s.ifindex, ebpf.AttachTCXIngress, 0
}
