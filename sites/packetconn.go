package sites

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// packetConn is a UDP socket on a segment, whose peers are the real clients. It
// is not a *net.UDPConn by embedding: quic-go would read and write past it.
type packetConn struct {
	sockets *Sockets
	cfg     net.ListenConfig
	sent    atomic.Int64 // when a datagram was sent last, in ns since begun

	mu                          sync.RWMutex
	at                          Address
	socket                      *udpSocket // unbound while the segment is stopped
	readDeadline, writeDeadline time.Time
	port                        func() // lets the port go
	stopped, closed             bool
}

// udpSocket is one UDP socket.
type udpSocket struct {
	*net.UDPConn
	batches *ipv4.PacketConn // the same, read by several datagrams at once
}

// bind opens the socket that is wanted now, in place of the one there is.
func (c *packetConn) bind(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	socket, err := c.wanted(ctx)
	if err != nil {
		return err
	}
	errs := []error{socket.SetReadDeadline(c.readDeadline), socket.SetWriteDeadline(c.writeDeadline)}
	if c.socket != nil {
		errs = append(errs, inherit(socket, c.socket.UDPConn))
	}
	if err := errors.Join(errs...); err != nil {
		socket.Close()
		return err
	}
	if c.socket != nil {
		c.socket.Close() // wakes ReadFrom, which goes on with the new one
	}
	c.socket = &udpSocket{socket, ipv4.NewPacketConn(socket)}
	return nil
}

func (c *packetConn) wanted(ctx context.Context) (*net.UDPConn, error) {
	if c.stopped {
		return unboundUDP()
	}
	var pc net.PacketConn
	err := c.sockets.plane.In(c.at.Segment, func() (err error) {
		pc, err = c.cfg.ListenPacket(ctx, "udp", c.at.Local.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}

// move binds the socket where its segment is now.
func (c *packetConn) move(ctx context.Context, addr netip.Addr, netns string) error {
	c.mu.Lock()
	before := c.at
	c.at.Local, c.at.Netns = netip.AddrPortFrom(addr, c.at.Local.Port()), netns
	moved := c.at != before
	c.mu.Unlock()
	if !moved {
		return nil
	}
	return c.bind(ctx)
}

// A datagram does not show whether its server is done with the peer. So a socket
// that is stopped is closed when its server has been silent for quiet, and at the
// latest after maxDrain.
const (
	quiet    = time.Second
	maxDrain = time.Minute
)

// begun is what times are counted from, lest a change of the time of day make a
// socket seem silent, or busy for hours.
var begun = time.Now()

// stop lets the port go, so that no new peer comes in, and the socket when it is
// quiet.
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
	if stopped { // and not started again meanwhile
		_ = c.bind(context.Background()) // short of descriptors, the port is let go at least
	}
}

// start binds the socket again.
func (c *packetConn) start(ctx context.Context) error {
	c.mu.Lock()
	c.stopped = false
	c.port = c.sockets.openPort(vnicbridge.UDP, c.at)
	c.mu.Unlock()
	return c.bind(ctx)
}

// ReadFrom reads a datagram and its sender, who is the real client. While the
// segment is stopped there is none.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		socket, local := c.current()
		n, from, err := socket.ReadFromUDPAddrPort(p)
		if c.moved(socket, err) {
			continue
		}
		if err != nil {
			return n, nil, err
		}
		if ends, ok := c.sockets.plane.Ends(c.at.Segment, vnicbridge.UDP, local, from); ok {
			from = ends.Client
		}
		return n, net.UDPAddrFromAddrPort(from), nil
	}
}

// moved tells whether an error is because a socket has given way to another one.
func (c *packetConn) moved(socket *udpSocket, err error) bool {
	now, _ := c.current()
	return errors.Is(err, net.ErrClosed) && socket != now
}

// WriteTo sends a datagram to a real client.
func (c *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	socket, local := c.current()
	peer, err := c.peer(socket, local, vnicbridge.Ends{Client: addrPort(to)})
	if err != nil {
		return 0, err
	}
	return socket.WriteToUDPAddrPort(p, peer)
}

// peer is where a socket sends what is for a client.
func (c *packetConn) peer(socket *udpSocket, local netip.AddrPort, ends vnicbridge.Ends) (netip.AddrPort, error) {
	client := ends.Client
	peer, ok := c.sockets.plane.Alias(c.at.Segment, vnicbridge.UDP, local, ends)
	if !ok {
		peer, ok = client, client.Addr() == local.Addr() || client.Addr().IsLoopback() // this host itself
	}
	if !ok || addrPort(socket.LocalAddr()) != local {
		// A client without a flow must not be sent to past the bridge, by the
		// host's own routes, nor anyone from a stopped segment.
		return netip.AddrPort{}, &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Addr: net.UDPAddrFromAddrPort(client),
			Err: os.NewSyscallError("sendto", syscall.EHOSTUNREACH)}
	}
	c.sent.Store(int64(time.Since(begun)))
	return peer, nil
}

// Close closes the socket and lets the port go.
func (c *packetConn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.port()
	err := c.socket.Close()
	c.mu.Unlock()
	if first {
		c.sockets.forget(c)
	}
	return err
}

func (c *packetConn) current() (socket *udpSocket, local netip.AddrPort) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.socket, c.at.Local
}

// LocalAddr is the segment's address, also while the segment is stopped.
func (c *packetConn) LocalAddr() net.Addr {
	_, local := c.current()
	return net.UDPAddrFromAddrPort(local)
}

func (c *packetConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readDeadline = t
	return c.socket.SetReadDeadline(t)
}

func (c *packetConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeDeadline = t
	return c.socket.SetWriteDeadline(t)
}

// SetReadBuffer, SetWriteBuffer and SyscallConn are what quic-go tunes a socket
// with; the next socket inherits it.
func (c *packetConn) SetReadBuffer(bytes int) error {
	socket, _ := c.current()
	return socket.SetReadBuffer(bytes)
}

func (c *packetConn) SetWriteBuffer(bytes int) error {
	socket, _ := c.current()
	return socket.SetWriteBuffer(bytes)
}

func (c *packetConn) SyscallConn() (syscall.RawConn, error) {
	socket, _ := c.current()
	return socket.SyscallConn()
}
