package fdstore

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// prefix begins the names of our files, because other parts of Caddy may get files from the service
// manager, too.
const prefix = "caddy-vnic-"

// Notify tells the service manager something, if there is one (sd_notify(3)).
func Notify(what string) error {
	manager, err := dial()
	if manager == nil {
		return err
	}
	defer func() { _ = manager.Close() }()
	return manager.tell(what)
}

// manager is a connection to the service manager.
type manager struct{ *net.UnixConn }

// dial connects to the service manager. It returns nil if there is none.
func dial() (*manager, error) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil, nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("the service manager: %w", err)
	}
	return &manager{conn}, nil
}

// tell sends assignments, and a file with them.
func (m *manager) tell(what string, files ...*os.File) error {
	var rights []byte
	for _, file := range files {
		fd, err := succession.Descriptor(file)
		if err != nil {
			return err
		}
		rights = append(rights, unix.UnixRights(fd)...)
	}
	raw, err := m.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Write(func(socket uintptr) (done bool) { // package net does not send files by a connected socket
		err = unix.Sendmsg(int(socket), []byte(what), rights, nil, 0)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err := errors.Join(failed, err); err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	return nil
}

// keep hands a file to the service manager. It is not watched (FDPOLL=0): the service manager would
// drop a device that goes down.
func (m *manager) keep(name string, file *os.File) error {
	return m.tell("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", file)
}

// drop makes the service manager close the files of a name.
func (m *manager) drop(name string) error { return m.tell("FDSTOREREMOVE=1\nFDNAME=" + name) }

// barrierPatience is how long the service manager may take to do what it was told.
const barrierPatience = 5 * time.Second

// barrier waits until the service manager has done what it was told: then it closes the file.
func (m *manager) barrier() error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer func() { _ = unix.Close(ends[0]) }()
	theirs := os.NewFile(uintptr(ends[1]), "barrier")
	err := m.tell("BARRIER=1", theirs)
	_ = theirs.Close()
	if err != nil {
		return err
	}
	wait := []unix.PollFd{{Fd: int32(ends[0])}}
	if n, err := unix.Poll(wait, int(barrierPatience.Milliseconds())); err != nil || n == 0 {
		return fmt.Errorf("the service manager does not answer within %v (%w)", barrierPatience, err)
	}
	return nil
}

// passed takes the files that the service manager has passed to this process (sd_listen_fds(3)).
// Those of others are left alone.
func passed() succession.Files {
	const first = 3
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return nil
	}
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	files := make(succession.Files)
	for i, name := range names[:min(count, len(names))] {
		if strings.HasPrefix(name, prefix) {
			unix.CloseOnExec(first + i)
			files[name] = os.NewFile(uintptr(first+i), name)
		}
	}
	return files
}
