package succession

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is the connection between the two processes. A message is a value in JSON, with the names
// of the files that follow it. The files follow in groups, each with one byte (SCM_RIGHTS in
// unix(7)).
type Conn struct{ *net.UnixConn }

// filesAtOnce is below the kernel's bound on the files with one byte (SCM_MAX_FD, 253).
const filesAtOnce = 128

// maxMessage bounds a message without its files, in bytes, so that another program at the other
// end cannot take all memory.
const maxMessage = 64 << 20

type message struct {
	Value json.RawMessage `json:"value"`
	Files []string        `json:"files,omitempty"`
}

// Pair returns both ends of a new connection. The second end is for the successor.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "predecessor")
	ours, err := Open(os.NewFile(uintptr(fds[0]), "successor"))
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Open makes a connection of one of its ends, and closes the file.
func Open(end *os.File) (*Conn, error) {
	defer func() { _ = end.Close() }()
	conn, err := net.FileConn(end)
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", end.Name(), err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("file %s is no Unix socket", end.Name())
	}
	return &Conn{unixConn}, nil
}

// Send sends a message. The files stay the caller's.
func (c *Conn) Send(value any, files Files) error {
	var m message
	var err error
	if m.Value, err = json.Marshal(value); err != nil {
		return err
	}
	for name := range files {
		m.Files = append(m.Files, name)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		return err
	}
	for names := range slices.Chunk(m.Files, filesAtOnce) {
		if err := c.sendFiles(names, files); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) sendFiles(names []string, files Files) error {
	var fds []int
	for _, name := range names {
		fd, err := Descriptor(files[name])
		if err != nil {
			return fmt.Errorf("file %s: %w", name, err)
		}
		fds = append(fds, fd)
	}
	_, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil)
	return err
}

// Receive waits for a message and decodes its value. The files belong to the caller.
func (c *Conn) Receive(value any) (Files, error) {
	var length [4]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes: want at most %d", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, err
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	files := make(Files)
	for names := range slices.Chunk(m.Files, filesAtOnce) {
		if err := c.receiveFiles(names, files); err != nil {
			return nil, errors.Join(err, files.Close())
		}
	}
	if err := json.Unmarshal(m.Value, value); err != nil {
		return nil, errors.Join(err, files.Close())
	}
	return files, nil
}

func (c *Conn) receiveFiles(names []string, files Files) error {
	control := make([]byte, unix.CmsgSpace(4*filesAtOnce))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return err
	}
	var fds []int
	for _, m := range messages {
		some, err := unix.ParseUnixRights(&m)
		if err != nil {
			return err
		}
		fds = append(fds, some...)
	}
	for i, fd := range fds {
		if i < len(names) {
			files[names[i]] = os.NewFile(uintptr(fd), names[i])
		} else {
			_ = unix.Close(fd)
		}
	}
	if len(fds) != len(names) {
		return fmt.Errorf("%d files came, want %d: too many are open (ulimit -n)", len(fds), len(names))
	}
	return nil
}

// Descriptor returns the number of an open file. Unlike [os.File.Fd] it leaves the file in the
// mode that it has. The number is valid as long as the file is open.
func Descriptor(file syscall.Conn) (fd int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = raw.Control(func(number uintptr) { fd = int(number) })
	return fd, err
}

// Duplicate returns the same open file under another descriptor.
func Duplicate(file syscall.Conn, name string) (copied *os.File, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	failed := raw.Control(func(number uintptr) { copied, err = DuplicateDescriptor(int(number), name) })
	return copied, errors.Join(failed, err)
}

// DuplicateDescriptor is [Duplicate] for what has only the number of a descriptor.
func DuplicateDescriptor(fd int, name string) (*os.File, error) {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", name, err)
	}
	return os.NewFile(uintptr(copied), name), nil
}

// Same tells whether two descriptors are of the same open file (kcmp(2)). It returns false if the kernel
// does not let this process compare them.
func Same(a, b syscall.Conn) bool {
	const kcmpFile = 0
	fdA, errA := Descriptor(a)
	fdB, errB := Descriptor(b)
	if errA != nil || errB != nil {
		return false
	}
	pid := uintptr(os.Getpid())
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, pid, pid, kcmpFile, uintptr(fdA), uintptr(fdB), 0)
	return errno == 0 && order == 0
}
