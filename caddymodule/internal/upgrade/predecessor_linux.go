package upgrade

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/fdstore"
	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Upgrade gives this process's place to a successor.
type Upgrade struct {
	Plane   *vnicbridge.Plane
	Sockets *sites.Sockets
	Keeper  *Keeper

	running   sync.Mutex
	successor *succession.Conn // which sees by its end that this process has ended
}

// Run starts the program's file on disk as the successor, with a configuration in JSON, and returns
// its process id when it has taken over. This process then ends by itself. If config is empty, the
// successor reads its configuration as the command line says.
//
// On error nothing has changed. The error tells what became of the successor, whose own log says
// more.
func (u *Upgrade) Run(config []byte) (pid int, err error) {
	if os.Getpid() == 1 {
		return 0, errors.New("this process is the first one of its container, which ends with it: replace the container instead")
	}
	if !u.running.TryLock() {
		return 0, errors.New("an upgrade is running already")
	}
	defer u.running.Unlock()
	sockets, err := keep(unixSockets(config))
	if err == nil {
		pid, err = u.replace(config, sockets)
	}
	if err != nil {
		err = errors.Join(err, sockets.restore())
	}
	return pid, err
}

// replace starts the successor, and returns when it has taken over. sockets are this process's.
func (u *Upgrade) replace(config []byte, sockets keptPaths) (pid int, err error) {
	conn, end, err := succession.Pair()
	if err != nil {
		return 0, err
	}
	successor, err := start(end, config)
	if err != nil {
		return 0, errors.Join(err, conn.Close())
	}
	_ = conn.SetDeadline(time.Now().Add(Patience))
	if err := u.serve(conn, successor.Pid, sockets); err != nil {
		kill(successor)
		tellMain(os.Getpid())
		u.Plane.Resume()
		restorePidfile()
		err = errors.Join(err, conn.Close())
		return 0, fmt.Errorf("the successor (process %d) did not take over, and nothing has changed: %w", successor.Pid, err)
	}
	u.successor = conn
	go u.end()
	return successor.Pid, nil
}

// pidfiles returns the file that has this process's number, if Caddy's command line asks for one.
func pidfiles() []string {
	if path := pidfile(os.Args); path != "" {
		return []string{path}
	}
	return nil
}

// restorePidfile writes this process's number again, where the successor has written its own.
func restorePidfile() {
	for _, path := range pidfiles() {
		_ = caddy.PIDFile(path) // it was written when this process started
	}
}

// kill ends the successor, and returns when it has ended.
func kill(successor *os.Process) {
	fd, err := unix.PidfdOpen(successor.Pid, 0)
	_ = successor.Kill() // fails if it has ended
	if err != nil {
		return // it has ended
	}
	defer func() { _ = unix.Close(fd) }()
	// The descriptor becomes readable when the process ends (pidfd_open(2)). One that hangs in the
	// kernel is waited for no longer than this, in ms.
	const most = 5000
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, most)
}

// program is the path of the program's file. It is taken when the process starts, because it would
// follow the old file if somebody moves that away to put a new one in its place.
var program, programErr = os.Executable()

// start starts the successor with its end of the connection. The successor is a child of this
// process's parent (CLONE_PARENT in clone(2)): systemd supervises only its own children in full.
func start(end *os.File, config []byte) (*os.Process, error) {
	defer func() { _ = end.Close() }()
	if programErr != nil {
		return nil, fmt.Errorf("finding the program's file: %w", programErr)
	}
	const firstExtra = 3 // os/exec
	files := []*os.File{end}
	args := os.Args[1:]
	if len(config) > 0 && !watches(args) {
		file, err := succession.Memory("caddy.json", config)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		args = withConfig(args, fmt.Sprintf("/proc/self/fd/%d", firstExtra+len(files)))
		files = append(files, file)
	}
	cmd := exec.Command(program, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, files
	cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(firstExtra))
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_PARENT}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	return cmd.Process, nil
}

// tellMain tells the service manager the process id of the unit's main process, from which alone it
// takes further news.
func tellMain(pid int) { _ = fdstore.Notify(fmt.Sprintf("MAINPID=%d", pid)) } // Caddy ignores such failures too

// serve answers the successor until that is ready.
func (u *Upgrade) serve(conn *succession.Conn, successor int, sockets keptPaths) error {
	for {
		var request string
		if _, err := conn.Receive(&request); errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("its configuration has not started within %v", Patience)
		} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) {
			return errors.New("it ended before its configuration had started")
		} else if err != nil {
			return err
		}
		a, files, err := u.answer(request)
		if request == askReady {
			tellMain(successor)
			sockets.drop() // the successor keeps its own
			a.Paths = slices.Concat(sockets, pidfiles())
		}
		if err != nil {
			a.Error = err.Error()
		}
		sent := conn.Send(a, files)
		if err := errors.Join(sent, files.Close()); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		if request == askReady {
			return nil
		}
	}
}

func (u *Upgrade) answer(request string) (a answer, files succession.Files, err error) {
	switch request {
	case askInventory:
		if a.Inventory, err = u.Plane.Inventory(); err != nil {
			return a, nil, err
		}
		files = a.Inventory.Files
		listening, err := u.Sockets.Files()
		for name := range listening {
			a.Sockets = append(a.Sockets, name)
		}
		maps.Copy(files, listening)
		return a, files, err
	case askYield:
		a.State, err = u.Plane.Yield()
		return a, a.State.Files, err
	case askReady:
		files, err = u.Keeper.Yield()
		return a, files, err
	}
	return a, nil, fmt.Errorf("it asks for %q, which this process does not know", request)
}

// end ends this process as an admin would, when the successor has what it needs. Requests that are being
// answered are finished.
func (u *Upgrade) end() {
	var request string
	_, _ = u.successor.Receive(&request) // askEnd, or the end of a successor that nothing can bring back
	u.Sockets.Yield()
	_ = unix.Kill(os.Getpid(), unix.SIGTERM) // Caddy waits for the answer to the request for the upgrade
}
