package sites

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// packetConn is UDP on a segment, whose peers are the real clients. It is no *net.UDPConn,
// because quic-go would then read and write past it.
type packetConn struct {
	sockets *Sockets
	cfg     net.ListenConfig
	sent    atomic.Int64 // time of the last sent datagram, in ns since begun

	mu                          sync.RWMutex
	at                          Address // its Segment and Port never change
	udp                         *udpSockets
	readDeadline, writeDeadline time.Time
	port                        func() // releases the port
	stopped, closed             bool
}

// bind replaces the sockets by those that are wanted now.
func (c *packetConn) bind(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	udp, err := c.wanted(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(udp.setReadDeadline(c.readDeadline), udp.setWriteDeadline(c.writeDeadline)); err != nil {
		_ = udp.close() // the first error counts
		return err
	}
	if c.udp != nil {
		_ = c.udp.close() // wakes readers, which go on with the new sockets
	}
	c.udp = udp
	c.sockets.rearranged()
	return nil
}

// wanted opens the sockets for the present state. The lock must be held.
func (c *packetConn) wanted(ctx context.Context) (*udpSockets, error) {
	where := c.at.places()
	if c.stopped {
		where = []place{{}}
	}
	var sockets []*udpSocket
	for _, p := range where {
		socket, err := c.open(ctx, p)
		if err != nil {
			return nil, errors.Join(err, closeAll(sockets))
		}
		sockets = append(sockets, socket)
	}
	return newUDPSockets(sockets)
}

// open opens a socket with the options of the present ones; unbound at no place.
func (c *packetConn) open(ctx context.Context, at place) (*udpSocket, error) {
	var before []*udpSocket
	if c.udp != nil {
		before = c.udp.all
	}
	for _, same := range before {
		if same.at == at {
			return same.duplicate() // with the datagrams that wait in it
		}
	}
	conn, err := c.listen(ctx, at)
	if err != nil {
		return nil, err
	}
	if len(before) > 0 {
		if err := inherit(conn, before[0].UDPConn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return newUDPSocket(conn, at), nil
}

func (c *packetConn) listen(ctx context.Context, at place) (*net.UDPConn, error) {
	if !at.local.IsValid() {
		return unboundUDP()
	}
	var pc net.PacketConn
	err := c.sockets.plane.In(c.at.Segment, func() (err error) {
		pc, err = c.cfg.ListenPacket(ctx, at.network("udp"), at.local.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}

// move binds the sockets to the present addresses and namespace of their segment.
func (c *packetConn) move(ctx context.Context, addrs []netip.Addr, netns string) error {
	c.mu.Lock()
	stayed := slices.Equal(c.at.Addrs, addrs) && c.at.Netns == netns
	c.at.Addrs, c.at.Netns = addrs, netns
	c.mu.Unlock()
	if stayed {
		return nil
	}
	return c.bind(ctx)
}

// A datagram does not show whether the server is done with the peer. So stopped sockets
// close when their server has sent nothing for quiet, and after maxDrain at the latest.
const (
	quiet    = time.Second
	maxDrain = time.Minute
)

// begun is the origin of times, which makes them independent of changes of the time of day.
var begun = time.Now()

// stop releases the port, so that no new peer comes in. It closes the sockets when the server
// is quiet.
func (c *packetConn) stop() {
	c.mu.Lock()
	c.stopped = true
	c.port()
	c.mu.Unlock()
	c.drain(time.Now().Add(maxDrain))
}

func (c *packetConn) drain(end time.Time) {
	silent := time.Since(begun) - time.Duration(c.sent.Load())
	if silent < quiet && time.Now().Before(end) {
		time.AfterFunc(quiet-silent, func() { c.drain(end) })
		return
	}
	c.mu.RLock()
	stopped := c.stopped
	c.mu.RUnlock()
	if stopped { // false if it was started again meanwhile
		_ = c.bind(context.Background()) // if descriptors have run out, the port is at least released
	}
}

// start binds the sockets again.
func (c *packetConn) start(ctx context.Context) error {
	c.mu.Lock()
	c.stopped = false
	c.port = c.sockets.openPort(config.UDP, c.at)
	c.mu.Unlock()
	return c.bind(ctx)
}

// ReadFrom reads a datagram. It returns the real client as the sender. While the segment is
// stopped, it waits.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, _, _, from, err := c.ReadMsgUDP(p, nil)
	if err != nil {
		return 0, nil, err
	}
	return n, from, nil
}

// moved tells whether a read failed because other sockets have replaced these.
func (c *packetConn) moved(udp *udpSockets, err error) bool {
	return errors.Is(err, net.ErrClosed) && udp != c.current()
}

// WriteTo sends a datagram to a real client.
func (c *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	socket, peer, err := c.peer(vnicbridge.Ends{Client: addrPort(to)})
	if err != nil {
		return 0, err
	}
	return socket.WriteToUDPAddrPort(p, peer)
}

// peer returns the socket and the address by which datagrams for a client are sent. A flow
// has one family, so the socket is the one of the client's family.
func (c *packetConn) peer(ends vnicbridge.Ends) (socket *udpSocket, peer netip.AddrPort, err error) {
	client := ends.Client
	socket = c.current().of(client.Addr())
	if socket == nil { // a stopped segment sends to nobody
		return nil, peer, c.unreachable(client)
	}
	local := socket.at.local
	peer, ok := c.sockets.plane.Alias(c.at.Segment, config.UDP, local, ends)
	if !ok {
		if client.Addr() != local.Addr() && !client.Addr().IsLoopback() {
			// Without a flow, the datagram would leave past the bridge, by the host's own
			// routes.
			return nil, peer, c.unreachable(client)
		}
		peer = client // this host itself
	}
	c.sent.Store(int64(time.Since(begun)))
	return socket, peer, nil
}

func (c *packetConn) unreachable(client netip.AddrPort) error {
	return &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Addr: net.UDPAddrFromAddrPort(client),
		Err: os.NewSyscallError("sendto", syscall.EHOSTUNREACH)}
}

// Close closes the sockets and releases the port.
func (c *packetConn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.port()
	err := c.udp.close()
	c.mu.Unlock()
	if first {
		c.sockets.forget(c)
	}
	return err
}

func (c *packetConn) current() *udpSockets {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.udp
}

// LocalAddr returns the segment's first address, even while the segment is stopped.
func (c *packetConn) LocalAddr() net.Addr {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return net.UDPAddrFromAddrPort(c.at.first())
}

func (c *packetConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readDeadline = t
	return c.udp.setReadDeadline(t)
}

func (c *packetConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeDeadline = t
	return c.udp.setWriteDeadline(t)
}

// quic-go tunes a socket by SetReadBuffer, SetWriteBuffer and SyscallConn. These apply to all
// sockets, and the next ones inherit the settings.
func (c *packetConn) SetReadBuffer(bytes int) error {
	return c.current().each(func(s *udpSocket) error { return s.SetReadBuffer(bytes) })
}

func (c *packetConn) SetWriteBuffer(bytes int) error {
	return c.current().each(func(s *udpSocket) error { return s.SetWriteBuffer(bytes) })
}

// SyscallConn gives access to the options of the sockets.
func (c *packetConn) SyscallConn() (syscall.RawConn, error) {
	var raw rawSockets
	err := c.current().each(func(s *udpSocket) error {
		one, err := s.SyscallConn()
		raw = append(raw, one)
		return err
	})
	return raw, err
}
