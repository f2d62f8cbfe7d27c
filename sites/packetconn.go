package sites

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// packetConn is a UDP socket on a segment, whose peers are the real clients. It
// is not a *net.UDPConn by embedding: quic-go would read and write past it.
type packetConn struct {
	sockets *Sockets
	segment string
	cfg     net.ListenConfig
	release func()

	mu       sync.RWMutex
	socket   *net.UDPConn
	settings settings
	closed   bool
}

// settings are what a new socket takes over from the old one.
type settings struct {
	readDeadline, writeDeadline time.Time
	readBuffer, writeBuffer     int // 0 is the system's default
}

// bind opens the socket on an address, in place of the one there is.
func (c *packetConn) bind(ctx context.Context, local netip.AddrPort) error {
	pc, err := c.cfg.ListenPacket(ctx, "udp", local.String())
	if err != nil {
		return err
	}
	socket := pc.(*net.UDPConn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return socket.Close()
	}
	if err := c.settings.apply(socket); err != nil {
		socket.Close()
		return err
	}
	if c.socket != nil {
		c.socket.Close() // wakes ReadFrom, which goes on with the new one
	}
	c.socket = socket
	return nil
}

// move binds the socket to the address that its segment has now.
func (c *packetConn) move(ctx context.Context, addr netip.Addr) error {
	local := addrPort(c.LocalAddr())
	if local.Addr() == addr {
		return nil
	}
	return c.bind(ctx, netip.AddrPortFrom(addr, local.Port()))
}

func (s settings) apply(socket *net.UDPConn) error {
	errs := []error{socket.SetReadDeadline(s.readDeadline), socket.SetWriteDeadline(s.writeDeadline)}
	if s.readBuffer > 0 {
		errs = append(errs, socket.SetReadBuffer(s.readBuffer))
	}
	if s.writeBuffer > 0 {
		errs = append(errs, socket.SetWriteBuffer(s.writeBuffer))
	}
	return errors.Join(errs...)
}

// ReadFrom reads a datagram and its sender, who is the real client.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		socket := c.current()
		n, from, err := socket.ReadFromUDPAddrPort(p)
		if errors.Is(err, net.ErrClosed) && socket != c.current() {
			continue // moved
		}
		if err != nil {
			return n, nil, err
		}
		if client, ok := c.sockets.plane.Client(vnicbridge.UDP, addrPort(socket.LocalAddr()), from); ok {
			from = client
		}
		return n, net.UDPAddrFromAddrPort(from), nil
	}
}

// WriteTo sends a datagram to a real client.
func (c *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	socket := c.current()
	local, client := addrPort(socket.LocalAddr()), addrPort(to)
	alias, ok := c.sockets.plane.Alias(vnicbridge.UDP, local, client)
	if ok {
		return socket.WriteToUDPAddrPort(p, alias)
	}
	if client.Addr() == local.Addr() || client.Addr().IsLoopback() {
		return socket.WriteToUDPAddrPort(p, client) // this host itself
	}
	// A client without a flow must not be sent to past the bridge, by the host's
	// own routes.
	return 0, &net.OpError{Op: "write", Net: "udp", Source: socket.LocalAddr(), Addr: to,
		Err: os.NewSyscallError("sendto", syscall.EHOSTUNREACH)}
}

// Close closes the socket and lets the port go.
func (c *packetConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.release()
		c.sockets.forget(c)
	}
	return c.socket.Close()
}

func (c *packetConn) current() *net.UDPConn {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.socket
}

func (c *packetConn) LocalAddr() net.Addr { return c.current().LocalAddr() }

func (c *packetConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings.readDeadline = t
	return c.socket.SetReadDeadline(t)
}

func (c *packetConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings.writeDeadline = t
	return c.socket.SetWriteDeadline(t)
}

// SetReadBuffer, SetWriteBuffer and SyscallConn are what quic-go tunes a socket
// with.
func (c *packetConn) SetReadBuffer(bytes int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings.readBuffer = bytes
	return c.socket.SetReadBuffer(bytes)
}

func (c *packetConn) SetWriteBuffer(bytes int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings.writeBuffer = bytes
	return c.socket.SetWriteBuffer(bytes)
}

func (c *packetConn) SyscallConn() (syscall.RawConn, error) { return c.current().SyscallConn() }
