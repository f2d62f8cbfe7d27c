package vnicbridge

import (
	"io"

	"github.com/cilium/ebpf"
)

// attachFilter puts a program on a device as a filter of clsact.
func (m *linuxMachine) attachFilter(ifindex int, attach ebpf.AttachType, program *ebpf.Program) (io.Closer, error) {
	return nil, ebpf.ErrNotSupported
}
