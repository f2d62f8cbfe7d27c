package sites_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

func listenPacket(t *testing.T, s *sites.Sockets, at sites.Address) net.PacketConn {
	t.Helper()
	pc, err := s.ListenPacket(context.Background(), at, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	pc.SetDeadline(time.Now().Add(10 * time.Second))
	return pc
}

func udpFrom(t *testing.T, from netip.Addr) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// exchange sends a datagram to a server, which answers, and returns the client's address as the
// server saw it.
func exchange(t *testing.T, peer *net.UDPConn, pc net.PacketConn) net.Addr {
	t.Helper()
	if _, err := peer.WriteTo([]byte("ping"), pc.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	n, from, err := pc.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "ping" {
		t.Fatalf("the server read %q, %v", buf[:n], err)
	}
	if _, err := pc.WriteTo([]byte("pong"), from); err != nil {
		t.Fatal(err)
	}
	if n, _, err = peer.ReadFrom(buf); err != nil || string(buf[:n]) != "pong" {
		t.Fatalf("the client read %q, %v", buf[:n], err)
	}
	return from
}

func TestDatagramsAreTheClients(t *testing.T) {
	pc := listenPacket(t, sites.NewSockets(new(planeStub)), freePort(t))

	peer := udpFrom(t, alias)
	want := netip.AddrPortFrom(client, peer.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	if got := exchange(t, peer, pc); got.String() != want.String() {
		t.Errorf("the server saw %s, want the client %s", got, want)
	}
	peer = udpFrom(t, server)
	if got := exchange(t, peer, pc); got.String() != peer.LocalAddr().String() {
		t.Errorf("the server saw %s, want the host's own %s", got, peer.LocalAddr())
	}
}

func TestNoDatagramPassesTheBridge(t *testing.T) {
	pc := listenPacket(t, sites.NewSockets(new(planeStub)), freePort(t))
	stranger := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.1:9"))
	if _, err := pc.WriteTo([]byte("x"), stranger); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("WriteTo a client without a flow returned %v, want host unreachable", err)
	}
}

func TestReadFromFollowsTheSegmentsAddress(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	pc := listenPacket(t, sockets, at)
	from := make(chan net.Addr)
	go func() {
		_, addr, err := pc.ReadFrom(make([]byte, 16))
		if err != nil {
			t.Error(err)
		}
		from <- addr
	}()
	time.Sleep(10 * time.Millisecond) // gives it time to block on the first socket
	moved := netip.MustParseAddr("127.0.0.3")
	err := sockets.Readdress(context.Background(), func(string) (netip.Addr, string, bool) { return moved, "", true })
	if err != nil {
		t.Fatal(err)
	}
	if got := pc.LocalAddr().String(); got != netip.AddrPortFrom(moved, at.Local.Port()).String() {
		t.Errorf("LocalAddr is %s", got)
	}
	if _, err := udpFrom(t, alias).WriteTo([]byte("ping"), pc.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := <-from; got == nil || got.(*net.UDPAddr).AddrPort().Addr() != client {
		t.Errorf("the server saw %v, want %s", got, client)
	}
}

func TestDeadlineMovesAlong(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	pc := listenPacket(t, sockets, at)
	pc.SetReadDeadline(time.Now().Add(-time.Second))
	err := sockets.Readdress(context.Background(), func(string) (netip.Addr, string, bool) { return netip.MustParseAddr("127.0.0.3"), "", true })
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(5*time.Second, func() { pc.Close() }).Stop()
	if _, _, err := pc.ReadFrom(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ReadFrom returned %v, want the deadline of before", err)
	}
}

func TestClosedPacketConnStaysClosed(t *testing.T) {
	plane := new(planeStub)
	sockets, at := sites.NewSockets(plane), freePort(t)
	pc := listenPacket(t, sockets, at)
	if err := pc.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pc.ReadFrom(make([]byte, 16)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ReadFrom returned %v, want net.ErrClosed", err)
	}
	pc.Close()
	for key, n := range plane.open {
		if n != 0 {
			t.Errorf("%s is open %d times", key, n)
		}
	}
}

// TestPacketConnsOverlap checks that two configurations can overlap: the older one's socket
// does not block the newer one's.
func TestPacketConnsOverlap(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	older := listenPacket(t, sockets, at)
	newer := listenPacket(t, sockets, at)
	older.Close()
	exchange(t, udpFrom(t, alias), newer)
}
