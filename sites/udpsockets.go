package sites

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// udpSocket is one UDP socket.
type udpSocket struct {
	*net.UDPConn
	batches *ipv4.PacketConn // the same socket, of either family, for reading several datagrams at once
	at      place            // the zero value if it is not bound
}

func newUDPSocket(conn *net.UDPConn, at place) *udpSocket {
	return &udpSocket{conn, ipv4.NewPacketConn(conn), at}
}

// duplicate returns the same socket under another descriptor. If the first one is closed,
// that wakes its readers, and the socket lives on.
func (s *udpSocket) duplicate() (*udpSocket, error) {
	conn, err := duplicate(s.UDPConn)
	if err != nil {
		return nil, err
	}
	return newUDPSocket(conn, s.at), nil
}

// udpSockets are the sockets of a [packetConn]: one for each address of its segment. While
// the segment is stopped, there is one, which is not bound.
type udpSockets struct {
	all  []*udpSocket
	poll *poller       // waits for a datagram on any of several sockets; nil if there is one
	turn atomic.Uint32 // divided by run: the socket to read first
}

// run is the number of batches that are read from one socket before the other gets its turn,
// so that a flood of datagrams on one does not starve the other. If there is nothing to read
// on a socket, its turn ends at once. That costs a system call, so turns are long.
const run = 16

// newUDPSockets takes over the sockets, which it closes if it fails.
func newUDPSockets(all []*udpSocket) (*udpSockets, error) {
	s := &udpSockets{all: all}
	if len(all) == 1 {
		return s, nil
	}
	var err error
	if s.poll, err = newPoller(all); err != nil {
		return nil, errors.Join(err, closeAll(all))
	}
	return s, nil
}

// readBatch reads the datagrams of one socket, and returns which one it is.
func (s *udpSockets) readBatch(messages []ipv4.Message, flags int) (n int, from *udpSocket, err error) {
	if s.poll == nil {
		from = s.all[0]
		n, err = from.batches.ReadBatch(messages, flags)
		return n, from, err
	}
	var failed error
	err = s.poll.wait(func() (done bool) {
		for range s.all {
			turn := s.turn.Load()
			from = s.all[turn/run%uint32(len(s.all))]
			n, failed = from.batches.ReadBatch(messages, flags|dontWait)
			if !errors.Is(failed, syscall.EAGAIN) {
				s.turn.Store(turn + 1)
				return true
			}
			s.turn.Store((turn/run + 1) * run)
		}
		return false
	})
	if err != nil {
		return 0, from, &net.OpError{Op: "read", Net: "udp", Err: err}
	}
	return n, from, failed
}

// of returns the socket that is bound to an address of the same family; nil if there is none.
func (s *udpSockets) of(addr netip.Addr) *udpSocket {
	for _, socket := range s.all {
		if socket.at.local.Addr().BitLen() == addr.BitLen() {
			return socket
		}
	}
	return nil
}

func (s *udpSockets) each(f func(*udpSocket) error) error {
	for _, socket := range s.all {
		if err := f(socket); err != nil {
			return err
		}
	}
	return nil
}

func (s *udpSockets) setReadDeadline(t time.Time) error {
	if s.poll != nil {
		return s.poll.SetReadDeadline(t)
	}
	return s.all[0].SetReadDeadline(t)
}

func (s *udpSockets) setWriteDeadline(t time.Time) error {
	return s.each(func(socket *udpSocket) error { return socket.SetWriteDeadline(t) })
}

// close closes the sockets, and wakes their readers.
func (s *udpSockets) close() error {
	err := closeAll(s.all)
	if s.poll != nil {
		err = errors.Join(err, s.poll.Close())
	}
	return err
}

func closeAll(sockets []*udpSocket) (err error) {
	for _, s := range sockets {
		err = errors.Join(err, s.Close())
	}
	return err
}

// rawSockets gives access to the options of several sockets.
type rawSockets []syscall.RawConn

// Control calls f for each socket. The program that calls it must expect that an option of
// the one family fails on a socket of the other.
func (r rawSockets) Control(f func(fd uintptr)) error {
	for _, one := range r {
		if err := one.Control(f); err != nil {
			return err
		}
	}
	return nil
}

// Read and Write are not supported, because there the clients are aliases.
func (rawSockets) Read(func(fd uintptr) bool) error  { return errors.ErrUnsupported }
func (rawSockets) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }
