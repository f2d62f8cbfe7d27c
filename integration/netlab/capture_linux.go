package netlab

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// captureBuffer is how many bytes of frames may wait to be read: a burst of
// 64 KiB frames overflows the system's default at once.
const captureBuffer = 64 << 20

// Capture collects the frames that pass devices of a host, in memory.
type Capture struct {
	devices []string
	conns   []*packet.Conn
	readers sync.WaitGroup

	mu     sync.Mutex
	frames []Frame
	buffer []byte
	err    error
}

// Capture begins to capture on the host's devices. The first device is interface 0.
// The caller closes the capture.
func (h *Host) Capture(devices ...string) (*Capture, error) {
	c := &Capture{devices: devices, buffer: make([]byte, 1<<17)}
	for i, device := range devices {
		if err := h.Do(func() error { return c.open(i, device) }); err != nil {
			return nil, errors.Join(fmt.Errorf("lab: capture on %s of %s: %w", device, h.name, err), c.Close())
		}
	}
	return c, nil
}

func (c *Capture) open(index int, device string) error {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		return err
	}
	c.conns = append(c.conns, conn)
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := prepareSocket(raw); err != nil {
		return err
	}
	c.readers.Go(func() {
		// Never done: it reads whenever there is something, until Close.
		raw.Read(func(fd uintptr) bool {
			c.drain(int(fd), index)
			return false
		})
	})
	return nil
}

// Devices are the captured devices, by the interface numbers of the frames.
func (c *Capture) Devices() []string { return c.devices }

// Frames returns what was captured so far, by time, with every frame that passed a
// device before the call.
func (c *Capture) Frames() ([]Frame, error) {
	for i, conn := range c.conns {
		raw, err := conn.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := raw.Control(func(fd uintptr) { c.drain(int(fd), i) }); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := slices.Clone(c.frames)
	slices.SortStableFunc(frames, func(a, b Frame) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
	return frames, c.err
}

// Save writes what was captured so far to a pcapng file.
func (c *Capture) Save(path string) error {
	frames, err := c.Frames()
	if err != nil {
		return fmt.Errorf("lab: capture: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := errors.Join(writePcapng(file, c.devices, frames), file.Close()); err != nil {
		return fmt.Errorf("lab: write %s: %w", path, err)
	}
	return nil
}

// Close ends the capture.
func (c *Capture) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	c.readers.Wait()
	return errors.Join(errs...)
}

// drain reads all the frames that wait in a socket.
func (c *Capture) drain(fd, index int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	control := make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))))
	for {
		n, controlLen, _, from, err := unix.Recvmsg(fd, c.buffer, control, unix.MSG_DONTWAIT)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return
		default:
			c.err = cmp.Or(c.err, fmt.Errorf("%s: %w", c.devices[index], err))
			return
		}
		link, _ := from.(*unix.SockaddrLinklayer)
		c.frames = append(c.frames, Frame{
			Interface: index,
			Outgoing:  link != nil && link.Pkttype == unix.PACKET_OUTGOING,
			Time:      kernelTime(control[:controlLen]),
			Data:      slices.Clone(c.buffer[:n]),
		})
	}
}

// prepareSocket asks the kernel for a large buffer and for the time at which each
// frame passed. By that time Frames orders the frames of several devices.
func prepareSocket(raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) {
		// Best effort: a user namespace has to make do with the system's limit.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer)
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	return errors.Join(err, set)
}

func kernelTime(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS {
			ts := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			return time.Unix(ts.Unix())
		}
	}
	return time.Now()
}
