//go:build soak

package integration_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration"
	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// blastRate is how many frames a second a blast sends: what leaves the machine's
// cores some time for the client, whose delay is measured.
const blastRate = 50_000

// blast sends hostile frames fast: many with one system call.
type blast struct {
	s       *scene
	fd      int
	hostile *hostile
}

// newBlast opens a packet socket that sends and does not receive.
func (s *scene) newBlast(from *integration.Host) *blast {
	s.t.Helper()
	link, err := from.Netlink().LinkByName("eth0")
	if err != nil {
		s.t.Fatal(err)
	}
	b := &blast{s: s, hostile: newHostile(link.Attrs().HardwareAddr)}
	b.hostile.longest = jumboMTU
	err = from.Do(func() (err error) {
		if b.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(b.fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index})
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Close(b.fd) })
	return b
}

// send sends a number of frames at the blast's rate, or as fast as it can.
func (b *blast) send(n int) {
	b.s.t.Helper()
	const batch = 64
	began := time.Now()
	for sent := 0; sent < n; sent += batch {
		if ahead := time.Duration(sent)*time.Second/blastRate - time.Since(began); ahead > 0 {
			time.Sleep(ahead)
		}
		frames := make([][]byte, min(batch, n-sent))
		for i := range frames {
			frames[i] = b.hostile.frame()
		}
		if err := sendFrames(b.fd, frames); err != nil {
			b.s.t.Fatal(err)
		}
	}
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// sendFrames sends frames by an AF_PACKET socket. What the link has no room for
// is lost, as on a wire.
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

// jumboMTU is that of the link between the server and its neighbours.
const jumboMTU = 9000

// jumbo lets jumbo frames through to the server.
func (s *scene) jumbo() {
	s.t.Helper()
	for _, h := range slices.Concat([]*integration.Host{s.Router, s.Server}, s.Neighbours) {
		device := map[*integration.Host]string{s.Router: integration.RouterWANDevice, s.Server: integration.NICDevice}[h]
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

// realFrames are what a host sends to the server when it asks for a page, a
// datagram's echo and a ping's.
func (s *scene) realFrames(from *integration.Host) (frames [][]byte) {
	s.t.Helper()
	nic, err := s.Server.Capture(integration.NICDevice)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nic.Close() // before the blast, which it would keep in memory
	s.getFrom(from, "http://192.168.1.2/")
	if err := s.askFrom(from, "192.168.1.2:5000"); err != nil {
		s.t.Fatal(err)
	}
	s.wantPing(from, integration.PseudoAddr)
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

// latencies are how long requests took, and those that failed.
type latencies struct {
	times    []time.Duration
	failures []error
}

// measure has PC1 ask for a page 200 times a second, by a new connection each,
// while something goes on.
func (s *scene) measure(during func()) *latencies {
	s.t.Helper()
	l, over, done := new(latencies), make(chan struct{}), make(chan struct{})
	client := s.PC1.HTTPClient()
	go func() {
		defer close(done)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-over:
				tick.Stop()
				return
			case <-tick.C:
			}
			began := time.Now()
			if body, err := fetch(client, "http://192.168.1.2/"); err != nil || body != "a" {
				l.failures = append(l.failures, fmt.Errorf("%q, %w", body, err))
				continue
			}
			l.times = append(l.times, time.Since(began))
		}
	}()
	during()
	close(over)
	<-done
	return l
}

func (l *latencies) percentile(p int) time.Duration { return gauge.Percentile(l.times, p) }

func (l *latencies) String() string {
	var texts []string
	for _, p := range []int{50, 99, 100} {
		texts = append(texts, l.percentile(p).Round(10*time.Microsecond).String())
	}
	return strings.Join(texts, " / ")
}
