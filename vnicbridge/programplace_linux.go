package vnicbridge

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A program of others that runs before ours and ends with TC_ACT_OK keeps its packets
// from ours. So ours stand before those of others: what captures first, then what carries.
type rank int

const (
	captures rank = iota
	carries
)

// place is a program in its place on a device.
type place interface {
	io.Closer
	// ahead names the programs of others that come before it, and tells whether it stands
	// there itself: somebody may have taken it away.
	ahead() (names []string, stands bool, err error)
	// raise puts it before those of others again, where there is a place before theirs.
	raise() error
}

// putProgram puts a program on a device: by tcx, or as a filter of clsact.
func (m *linuxMachine) putProgram(ifindex int, attach ebpf.AttachType, program *ebpf.Program, r rank, clsact bool) (place, error) {
	own, err := program.Clone() // to be put there again
	if err != nil {
		return nil, err
	}
	var p place
	if clsact {
		p, err = m.attachFilter(ifindex, attach, own, r)
	} else {
		p, err = m.attachTCX(ifindex, attach, own, r)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return p, nil
}

// tcxProgram is a program on a device by tcx.
type tcxProgram struct {
	m       *linuxMachine
	ifindex int
	attach  ebpf.AttachType
	rank    rank
	program *ebpf.Program
	id      ebpf.ProgramID
	link    link.Link
}

func (m *linuxMachine) attachTCX(ifindex int, attach ebpf.AttachType, program *ebpf.Program, r rank) (*tcxProgram, error) {
	info, err := program.Info()
	if err != nil {
		return nil, err
	}
	t := &tcxProgram{m: m, ifindex: ifindex, attach: attach, rank: r, program: program}
	t.id, _ = info.ID()
	if err := t.put(); err != nil {
		return nil, err
	}
	m.programs.Store(t.id, r)
	return t, nil
}

// put attaches the program before all but those of ours that come first. What it is put
// before may go meanwhile.
func (t *tcxProgram) put() (err error) {
	for range 10 {
		at := t.anchor()
		err = t.m.ns.do(func() (err error) {
			t.link, err = link.AttachTCX(link.TCXOptions{Interface: t.ifindex, Program: t.program, Attach: t.attach, Anchor: at})
			return err
		})
		if !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

func (t *tcxProgram) anchor() link.Anchor {
	if t.rank == captures {
		return link.Head()
	}
	programs, _ := t.programs() // where it fails, to attach does too
	for _, id := range programs {
		if r, ours := t.m.programs.Load(id); !ours || r != captures {
			return link.BeforeProgramByID(id)
		}
	}
	return link.Tail()
}

// programs are those on the device, in the order in which they run.
func (t *tcxProgram) programs() (ids []ebpf.ProgramID, err error) {
	err = t.m.ns.do(func() error {
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
		if _, ours := t.m.programs.Load(id); !ours {
			names = append(names, fmt.Sprintf("the BPF program %d", id))
		}
	}
	return nil, false, err
}

// raise leaves the device without the program for a moment, since the kernel moves none:
// meanwhile the packet filter keeps the host from what is not its own.
func (t *tcxProgram) raise() error {
	_ = t.link.Close() // nor is it there if somebody took it away
	return t.put()
}

func (t *tcxProgram) Close() error {
	t.m.programs.Delete(t.id)
	return errors.Join(t.link.Close(), t.program.Close())
}
