package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a program has to end by itself.
const stopGrace = 10 * time.Second

// Process is a program that runs on a [Host].
type Process struct {
	name    string // for errors
	process *os.Process
	done    chan struct{}
	err     error // what Wait returned, once done is closed
}

// Start starts a command on the host. The program is ended when the network is closed,
// and when this process dies.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{name: cmd.Path, done: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(unix.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	cmd.SysProcAttr.Setpgid = true // a terminal's Ctrl-C is for us, who then stop it in order
	started := make(chan error, 1)
	go func() {
		// The death signal is tied to the thread that starts the program, so
		// that thread must live as long as the program does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := h.Do(cmd.Start)
		p.process = cmd.Process
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", cmd.Path, h.name, err)
	}
	h.add(p)
	return p, nil
}

func (h *Host) add(p *Process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.processes = append(h.processes, p)
}

// Follow returns a program on the host that another one has started, and which is ended when the
// network is closed.
func (h *Host) Follow(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d on %s: %w", pid, h.name, err)
	}
	p := &Process{name: fmt.Sprintf("process %d", pid), done: make(chan struct{})}
	if p.process, err = os.FindProcess(pid); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		defer unix.Close(fd)
		for { // it becomes readable when the process ends (pidfd_open(2))
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); !errors.Is(err, unix.EINTR) {
				p.err = err
				return
			}
		}
	}()
	h.add(p)
	return p, nil
}

// Run runs a command on the host to its end and returns what it wrote to
// standard output and standard error.
func (h *Host) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var output []byte
	err := h.Do(func() (err error) {
		output, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return output, fmt.Errorf("%s on %s: %w: %s", cmd, h.name, err, output)
	}
	return output, nil
}

// PID is the program's process id.
func (p *Process) PID() int { return p.process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end and returns what exec.Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends the program a signal. If the program has ended, that is no error.
func (p *Process) Signal(sig unix.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.process.Signal(sig); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop asks the program to end, by SIGTERM. If the program has not ended after 10 s,
// Stop kills it and returns an error.
func (p *Process) Stop() error {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopGrace):
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return fmt.Errorf("%s did not end in %v of SIGTERM and was killed", p.name, stopGrace)
}
