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
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// packetConn is a UDP socket on a segment, whose peers are the real clients. It does not
// embed the *net.UDPConn, because quic-go would then read and write past it.
type packetConn struct {
	sockets *Sockets
	cfg     net.ListenConfig
	sent    atomic.Int64 // time of the last sent datagram, in ns since begun

	mu                          sync.RWMutex
	at                          Address
	socket                      *udpSocket // unbound while the segment is stopped
	readDeadline, writeDeadline time.Time
	port                        func() // releases the port
	stopped, closed             bool
}

// udpSocket is one UDP socket.
type udpSocket struct {
	*net.UDPConn
	batches *ipv4.PacketConn // the same socket, for reading several datagrams at once
}

// bind replaces the socket by the one that is wanted now.
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
		c.socket.Close() // wakes ReadFrom, which goes on with the new socket
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

// move binds the socket to the present address and namespace of its segment.
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

// A datagram does not show whether the server is done with the peer. So a stopped socket
// closes when its server has sent nothing for quiet, and after maxDrain at the latest.
const (
	quiet    = time.Second
	maxDrain = time.Minute
)

// begun is the origin of times, which makes them independent of changes of the time of day.
var begun = time.Now()

// stop releases the port, so that no new peer comes in. It closes the socket when the server
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

// start binds the socket again.
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
	for {
		socket, local := c.current()
		n, from, err := socket.ReadFromUDPAddrPort(p)
		if c.moved(socket, err) {
			continue
		}
		if err != nil {
			return n, nil, err
		}
		if ends, ok := c.sockets.plane.Ends(c.at.Segment, config.UDP, local, from); ok {
			from = ends.Client
		}
		return n, net.UDPAddrFromAddrPort(from), nil
	}
}

// moved tells whether a read failed because another socket has replaced this one.
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

// peer returns the address to which a socket sends datagrams for a client.
func (c *packetConn) peer(socket *udpSocket, local netip.AddrPort, ends vnicbridge.Ends) (netip.AddrPort, error) {
	client := ends.Client
	peer, ok := c.sockets.plane.Alias(c.at.Segment, config.UDP, local, ends)
	if !ok {
		peer, ok = client, client.Addr() == local.Addr() || client.Addr().IsLoopback() // this host itself
	}
	if !ok || addrPort(socket.LocalAddr()) != local {
		// Without a flow, the datagram would leave past the bridge, by the host's own
		// routes. A stopped segment sends to nobody.
		return netip.AddrPort{}, &net.OpError{Op: "write", Net: "udp", Source: c.LocalAddr(), Addr: net.UDPAddrFromAddrPort(client),
			Err: os.NewSyscallError("sendto", syscall.EHOSTUNREACH)}
	}
	c.sent.Store(int64(time.Since(begun)))
	return peer, nil
}

// Close closes the socket and releases the port.
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

// LocalAddr returns the segment's address, even while the segment is stopped.
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

// quic-go tunes a socket by SetReadBuffer, SetWriteBuffer and SyscallConn. The next socket
// inherits the settings.
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
