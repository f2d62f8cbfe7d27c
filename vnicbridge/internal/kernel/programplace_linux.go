package kernel

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// rank orders our programs on a device. All of them come before the programs of others,
// because a program that ends with TC_ACT_OK keeps its packets from later programs.
type rank int

const (
	Captures rank = iota // programs of captures come first, so that they see every packet
	carries              // programs that carry packets
)

// place is a program that is attached to a device.
type place interface {
	io.Closer
	// ahead names the programs of others that come before this one. stands is false if
	// somebody removed this one.
	ahead() (names []string, stands bool, err error)
	// raise puts the program before those of others again, if that is possible.
	raise() error
}

// Places are our programs on a machine's devices. They know which programs are ours.
type Places struct {
	Machine *host.Machine
	ranks   sync.Map // of the programs by tcx, by their ids
	hooks   sync.Map // the hooks of the kernel path
}

// NewPlaces returns the places of a machine without programs of ours.
func NewPlaces(m *host.Machine) *Places { return &Places{Machine: m} }

// Put puts a program on a device of a namespace, by tcx or as a filter of clsact. If the kernel has no tcx
// and clsact is false, the error is ebpf.ErrNotSupported. The caller may close the program
// afterwards.
func (s *Places) Put(ns *host.Namespace, ifindex int, attach ebpf.AttachType, program *ebpf.Program, r rank, clsact bool) (place, error) {
	own, err := program.Clone() // which raise attaches again
	if err != nil {
		return nil, err
	}
	var p place
	if clsact {
		p, err = attachFilter(ns, ifindex, attach, own, r)
	} else {
		p, err = s.attachTCX(ns, ifindex, attach, own, r)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return p, nil
}

// tcxProgram is a program on a device by tcx.
type tcxProgram struct {
	places  *Places
	ns      *host.Namespace
	ifindex int
	attach  ebpf.AttachType
	rank    rank
	program *ebpf.Program
	id      ebpf.ProgramID
	link    link.Link
}

func (s *Places) attachTCX(ns *host.Namespace, ifindex int, attach ebpf.AttachType, program *ebpf.Program, r rank) (*tcxProgram, error) {
	info, err := program.Info()
	if err != nil {
		return nil, err
	}
	t := &tcxProgram{places: s, ns: ns, ifindex: ifindex, attach: attach, rank: r, program: program}
	t.id, _ = info.ID()
	if err := t.put(); err != nil {
		return nil, err
	}
	s.ranks.Store(t.id, r)
	return t, nil
}

// put attaches the program before all programs except our captures. If the next program is
// removed meanwhile, put tries again, up to ten times.
func (t *tcxProgram) put() (err error) {
	for range 10 {
		at := t.anchor()
		err = t.ns.Do(func() (err error) {
			t.link, err = link.AttachTCX(link.TCXOptions{Interface: t.ifindex, Program: t.program, Attach: t.attach, Anchor: at})
			return err
		})
		if !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

// anchor returns the place of the program among those on the device.
func (t *tcxProgram) anchor() link.Anchor {
	if t.rank == Captures {
		return link.Head()
	}
	programs, _ := t.programs() // if this fails, attaching fails, too
	for _, id := range programs {
		if r, ours := t.places.ranks.Load(id); !ours || r != Captures {
			return link.BeforeProgramByID(id)
		}
	}
	return link.Tail()
}

// programs returns the programs on the device, in the order in which they run.
func (t *tcxProgram) programs() (ids []ebpf.ProgramID, err error) {
	err = t.ns.Do(func() error {
		result, err := link.QueryPrograms(link.QueryOptions{Target: t.ifindex, Attach: t.attach})
		if err != nil {
			return err
		}
		for _, p := range result.Programs {
			ids = append(ids, p.ID)
		}
		return nil
	})
	return ids, err
}

func (t *tcxProgram) ahead() (names []string, stands bool, err error) {
	programs, err := t.programs()
	for _, id := range programs {
		if id == t.id {
			return names, true, nil
		}
		if _, ours := t.places.ranks.Load(id); !ours {
			names = append(names, fmt.Sprintf("the BPF program %d", id))
		}
	}
	return nil, false, err
}

// raise attaches the program again. The device is without the program for a moment, because
// the kernel cannot move programs. Meanwhile the guard keeps the host off the packets.
func (t *tcxProgram) raise() error {
	_ = t.detach() // fails if somebody removed the program
	return t.put()
}

// detach ends the link, whoever else has it open: a service manager may keep it.
func (t *tcxProgram) detach() error { return errors.Join(t.link.Detach(), t.link.Close()) }

// Close detaches the program. It is no error if the device is gone.
func (t *tcxProgram) Close() error {
	t.places.ranks.Delete(t.id)
	err := t.detach()
	if host.IsGone(err) {
		err = nil
	}
	return errors.Join(err, t.program.Close())
}
