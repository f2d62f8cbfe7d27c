package main

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// sink is a server's discard service. It counts the datagrams that arrive, and remembers
// which numbers of a sequence have arrived.
type sink struct {
	received atomic.Int64

	mu   sync.Mutex
	seen []bool // by sequence number; nil: no sequence is expected
}

func newSink(h *netlab.Host, on netip.AddrPort) (*sink, error) {
	fd, err := bindSocket(h, on, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer); err != nil {
		return nil, err
	}
	s := new(sink)
	go s.run(fd)
	return s, nil
}

// run looks for datagrams every millisecond instead of waiting for them. If each datagram
// woke run, the sender would do the work of waking. In a virtual machine this is more work
// than the rest of a datagram's way.
func (s *sink) run(fd int) {
	buffer := make([]byte, 2048)
	for {
		n, err := readSocket(fd, buffer)
		if err == unix.EAGAIN {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return
		}
		s.received.Add(1)
		if n >= 8 {
			s.see(binary.BigEndian.Uint64(buffer))
		}
	}
}

// quiet waits until nothing has arrived for 20 ms. It returns how many datagrams have
// arrived so far, and when the last one did, to a millisecond or two.
func (s *sink) quiet() (received int64, last time.Time) {
	const silence, step = 20 * time.Millisecond, time.Millisecond
	last = time.Now()
	for {
		time.Sleep(step)
		if now := s.received.Load(); now != received {
			received, last = now, time.Now()
		} else if time.Since(last) > silence {
			return received, last
		}
	}
}

func (s *sink) see(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < uint64(len(s.seen)) {
		s.seen[number] = true
	}
}

// expect begins a sequence of at most n datagrams.
func (s *sink) expect(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = make([]bool, n)
}

// missing counts how many of the first n datagrams have not arrived, and ends the sequence.
func (s *sink) missing(n int) (missing int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seen := range s.seen[:n] {
		if !seen {
			missing++
		}
	}
	s.seen = nil
	return missing
}
