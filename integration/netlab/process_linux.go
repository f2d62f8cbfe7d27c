package netlab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long a program has to end by itself.
const stopGrace = 10 * time.Second

// Process is a program that runs on a [Host].
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // what Wait returned, once done is closed
}

// Start starts a command on the host. The program is ended when the network is closed,
// and when this process dies.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
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
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", cmd.Path, h.name, err)
	}
	h.mu.Lock()
	h.processes = append(h.processes, p)
	h.mu.Unlock()
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
func (p *Process) PID() int { return p.cmd.Process.Pid }

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
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, unix.ESRCH) {
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
	return fmt.Errorf("%s did not end in %v of SIGTERM and was killed", p.cmd.Path, stopGrace)
}
