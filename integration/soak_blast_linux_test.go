//go:build soak

package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// order tells a sender of frames what to send (idleProgram).
type order struct {
	Device    string
	MAC       net.HardwareAddr
	Longest   int              // the length of the longest IP packet, in bytes
	IPv6      bool             // hostile frames are of IPv6
	Templates [][]byte         // real frames, from which hostile ones are made
	Frames    [][]byte         // sent unchanged, again and again; default: hostile frames
	To        net.HardwareAddr // the destination; default: the server
	Count     int              // how many frames to send
	Rate      int              // frames per second
}

// asSender is the environment variable that makes this test binary a sender of frames.
const asSender = "CADDY_VNIC_AS_SENDER"

func init() { programs[asSender] = sendAsOrdered }

// orderFor returns an order for a neighbour of the server.
func (s *scene) orderFor(from *netlab.Host) order {
	s.t.Helper()
	return s.orderBy(from, "eth0")
}

// orderBy returns an order for a device of a host.
func (s *scene) orderBy(from *netlab.Host, device string) order {
	s.t.Helper()
	link, err := from.Netlink().LinkByName(device)
	if err != nil {
		s.t.Fatal(err)
	}
	return order{Device: device, MAC: link.Attrs().HardwareAddr}
}

// blast makes a host send frames by an order, and returns how many it sent per second.
func (s *scene) blast(from *netlab.Host, o order) (rate float64) {
	s.t.Helper()
	cmd := s.idleProgram(asSender, o)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	sender, err := from.Start(cmd)
	if err == nil {
		err = sender.Wait()
	}
	if err == nil {
		_, err = fmt.Sscan(output.String(), &rate)
	}
	if err != nil {
		s.t.Fatalf("sending frames: %v: %s", err, &output)
	}
	return rate
}

// idleProgram is program for what runs only when its cores are otherwise idle (SCHED_IDLE). So what
// attackers do does not slow down clients, which in real life have machines of their own.
func (s *scene) idleProgram(name string, order any) *exec.Cmd {
	s.t.Helper()
	return s.program(name, order, "chrt", "--idle", "0")
}

// program is the command of one of this test binary's programs, which reads an order from its
// standard input. by runs it.
func (s *scene) program(name string, order any, by ...string) *exec.Cmd {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	input, err := json.Marshal(order)
	if err != nil {
		s.t.Fatal(err)
	}
	by = append(by, self)
	cmd := exec.CommandContext(s.t.Context(), by[0], by[1:]...)
	cmd.Env = append(os.Environ(), name+"=1")
	cmd.Stdin = bytes.NewReader(input)
	return cmd
}

// sendAsOrdered is the sender's main function.
func sendAsOrdered() error {
	var o order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	link, err := net.InterfaceByName(o.Device)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // receives nothing
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
		return err
	}
	began := time.Now()
	if err := o.send(fd); err != nil {
		return err
	}
	fmt.Println(float64(o.Count) / time.Since(began).Seconds())
	return nil
}

// burst is how many frames are sent with one system call.
const burst = 16

// send sends at the rate of the order, or as fast as it can if that is slower.
func (o order) send(fd int) error {
	next := o.frames()
	batch := make([][]byte, burst)
	began := time.Now()
	for sent := 0; sent < o.Count; sent += burst {
		for i := range batch {
			batch[i] = next()
			copy(batch[i], o.To)
		}
		if ahead := time.Duration(sent)*time.Second/time.Duration(o.Rate) - time.Since(began); ahead > 0 {
			time.Sleep(ahead)
		}
		if err := sendFrames(fd, batch); err != nil {
			return err
		}
	}
	return nil
}

// frames returns a function that gives the frames to send, one after the other.
func (o order) frames() func() []byte {
	if len(o.Frames) > 0 {
		sent := 0
		return func() []byte {
			sent++
			return o.Frames[sent%len(o.Frames)]
		}
	}
	if o.IPv6 {
		h := newHostile6(o.MAC)
		h.longest = o.Longest
		return h.frame
	}
	h := newHostile(o.MAC)
	h.longest = o.Longest
	h.templates = append(h.templates, o.Templates...)
	return h.frame
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// sendFrames sends frames by an AF_PACKET socket. If the link is full, frames are lost, as on
// a wire.
func sendFrames(fd int, frames [][]byte) error {
	headers, vectors := make([]mmsghdr, len(frames)), make([]unix.Iovec, len(frames))
	for i, f := range frames {
		vectors[i].Base = &f[0]
		vectors[i].SetLen(len(f))
		headers[i].header.Iov = &vectors[i]
		headers[i].header.SetIovlen(1)
	}
	for len(headers) > 0 {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), 0, 0, 0)
		switch errno {
		case 0:
			headers = headers[n:]
		case unix.EINTR:
		case unix.ENOBUFS:
			headers = headers[1:]
		default:
			return fmt.Errorf("sendmmsg of a frame of %d bytes: %w", headers[0].header.Iov.Len, errno)
		}
	}
	return nil
}

// jumboMTU is the MTU of the link between the server and its neighbours, in bytes.
const jumboMTU = 9000

// jumbo sets jumboMTU on the server's link.
func (s *scene) jumbo() {
	s.t.Helper()
	for _, h := range slices.Concat([]*netlab.Host{s.Router, s.Server}, s.Neighbours) {
		device := map[*netlab.Host]string{s.Router: paper.RouterWANDevice, s.Server: paper.NICDevice}[h]
		if device == "" {
			device = "eth0"
		}
		s.ip(h, fmt.Sprintf("link set %s mtu %d", device, jumboMTU))
	}
	for line := range strings.Lines(s.ip(s.Switch, "-br link show master br0")) {
		device, _, _ := strings.Cut(line, "@")
		s.ip(s.Switch, fmt.Sprintf("link set %s mtu %d", device, jumboMTU))
	}
}

// realFrames returns the frames that a host sends to the server when it requests a page, and
// the echoes of a datagram and of a ping.
func (s *scene) realFrames(from *netlab.Host) (frames [][]byte) {
	s.t.Helper()
	nic, err := s.Server.Capture(paper.NICDevice)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nic.Close() // before the blast, because it would keep the blast's frames in memory
	s.getFrom(from, "http://192.168.1.2/")
	if err := s.askFrom(from, "192.168.1.2:5000"); err != nil {
		s.t.Fatal(err)
	}
	s.wantPing(from, paper.PseudoAddr)
	address := netip.MustParseAddr("192.168.1.11")
	for _, f := range s.frames(nic) {
		if len(f.Data) >= 42 && !f.Outgoing && netip.AddrFrom4([4]byte(f.Data[26:30])) == address {
			frames = append(frames, f.Data)
		}
	}
	if len(frames) < 6 {
		s.t.Fatalf("only %d real frames were captured", len(frames))
	}
	return frames
}
