package sites_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
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

// send sends a datagram to a server.
func send(t *testing.T, peer *net.UDPConn, text string, pc net.PacketConn) {
	t.Helper()
	from := peer.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	server := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to(from, pc.LocalAddr())))
	if _, err := peer.WriteTo([]byte(text), server); err != nil {
		t.Fatal(err)
	}
}

// exchange sends a datagram to a server, which answers, and returns the client's address as the
// server saw it.
func exchange(t *testing.T, peer *net.UDPConn, pc net.PacketConn) net.Addr {
	t.Helper()
	send(t, peer, "ping", pc)
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
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		pc := listenPacket(t, sites.NewSockets(new(planeStub)), at)
		if got := pc.LocalAddr().String(); got != firstOf(at) {
			t.Errorf("LocalAddr is %s, want %s", got, firstOf(at))
		}
		peer := udpFrom(t, f.alias)
		want := netip.AddrPortFrom(f.client, peer.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		if got := exchange(t, peer, pc); got.String() != want.String() {
			t.Errorf("the server saw %s, want the client %s", got, want)
		}
		if f.server == f.alias {
			return // the host's own datagrams cannot be told apart
		}
		peer = udpFrom(t, f.server)
		if got := exchange(t, peer, pc); got.String() != peer.LocalAddr().String() {
			t.Errorf("the server saw %s, want the host's own %s", got, peer.LocalAddr())
		}
	})
}

func TestNoDatagramPassesTheBridge(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, _ family) {
		pc := listenPacket(t, sites.NewSockets(new(planeStub)), at)
		for _, stranger := range []string{"198.51.100.1:9", "[2001:db8:9::9]:9"} {
			_, err := pc.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(stranger)))
			if !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Errorf("WriteTo %s, which has no flow, returned %v, want host unreachable", stranger, err)
			}
		}
	})
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
	readdress(t, sockets, moved)
	if got := pc.LocalAddr().String(); got != netip.AddrPortFrom(moved, at.Port).String() {
		t.Errorf("LocalAddr is %s", got)
	}
	if _, err := udpFrom(t, alias).WriteTo([]byte("ping"), pc.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := <-from; got == nil || got.(*net.UDPAddr).AddrPort().Addr() != client {
		t.Errorf("the server saw %v, want %s", got, client)
	}
}

// readdress gives all segments other addresses.
func readdress(t *testing.T, sockets *sites.Sockets, addrs ...netip.Addr) {
	t.Helper()
	err := sockets.Readdress(t.Context(), func(string) ([]netip.Addr, string, bool) { return addrs, "", true })
	if err != nil {
		t.Fatal(err)
	}
}

func TestDeadlineMovesAlong(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	pc := listenPacket(t, sockets, at)
	pc.SetReadDeadline(time.Now().Add(-time.Second))
	readdress(t, sockets, netip.MustParseAddr("127.0.0.3"))
	defer time.AfterFunc(5*time.Second, func() { pc.Close() }).Stop()
	if _, _, err := pc.ReadFrom(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ReadFrom returned %v, want the deadline of before", err)
	}
}

func TestClosedPacketConnStaysClosed(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, _ family) {
		plane := new(planeStub)
		pc := listenPacket(t, sites.NewSockets(plane), at)
		woken := make(chan error)
		go func() {
			_, _, err := pc.ReadFrom(make([]byte, 16))
			woken <- err
		}()
		time.Sleep(10 * time.Millisecond) // gives it time to block; the test passes without, too
		if err := pc.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-woken; !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadFrom returned %v, want net.ErrClosed", err)
		}
		if _, _, err := pc.ReadFrom(make([]byte, 16)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ReadFrom after Close returned %v, want net.ErrClosed", err)
		}
		pc.Close()
		for key, n := range plane.open {
			if n != 0 {
				t.Errorf("%s is open %d times", key, n)
			}
		}
	})
}

// TestPacketConnsOverlap checks that two configurations can overlap: the older one's sockets
// do not block the newer one's.
func TestPacketConnsOverlap(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		sockets := sites.NewSockets(new(planeStub))
		older := listenPacket(t, sockets, at)
		newer := listenPacket(t, sockets, at)
		older.Close()
		exchange(t, udpFrom(t, f.alias), newer)
	})
}

func TestReadDeadline(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		pc := listenPacket(t, sites.NewSockets(new(planeStub)), at)
		for _, deadline := range []time.Time{time.Now().Add(-time.Second), time.Now().Add(20 * time.Millisecond)} {
			pc.SetReadDeadline(deadline)
			if _, _, err := pc.ReadFrom(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("ReadFrom returned %v, want the deadline", err)
			}
		}
		pc.SetReadDeadline(time.Now().Add(10 * time.Second))
		exchange(t, udpFrom(t, f.alias), pc)
	})
}

// TestSegmentGetsAnotherAddress checks that a socket whose address stays keeps its datagrams
// and its reader when the segment gets or loses the other address.
func TestSegmentGetsAnotherAddress(t *testing.T) {
	v4, v6 := families[0], families[1]
	for _, stays := range families {
		t.Run(stays.name, func(t *testing.T) {
			both := []netip.Addr{v4.server, v6.server}
			sockets, at := sites.NewSockets(new(planeStub)), freePort(t, both...)
			at.Addrs = []netip.Addr{stays.server}
			pc := listenPacket(t, sockets, at)
			got := make(chan string)
			read := func() {
				buf := make([]byte, 16)
				n, from, err := pc.ReadFrom(buf)
				if err != nil {
					t.Error(err)
				}
				got <- string(buf[:n]) + " of " + from.(*net.UDPAddr).IP.String()
			}
			for _, addrs := range [][]netip.Addr{both, {stays.server}, both} {
				send(t, udpFrom(t, stays.alias), "waiting", pc)
				readdress(t, sockets, addrs...)
				go read()
				if got, want := <-got, "waiting of "+stays.client.String(); got != want {
					t.Errorf("with %s, the server read %s, want %s", addrs, got, want)
				}
				for _, f := range families {
					if len(addrs) == 1 && f != stays {
						continue
					}
					go read()
					time.Sleep(10 * time.Millisecond) // gives it time to block; the test passes without, too
					send(t, udpFrom(t, f.alias), "next", pc)
					if got, want := <-got, "next of "+f.client.String(); got != want {
						t.Errorf("with %s, the server read %s, want %s", addrs, got, want)
					}
				}
				go read()
				time.Sleep(10 * time.Millisecond) // it blocks while the sockets are replaced
				readdress(t, sockets, stays.server)
				readdress(t, sockets, addrs...)
				send(t, udpFrom(t, stays.alias), "after", pc)
				if got, want := <-got, "after of "+stays.client.String(); got != want {
					t.Errorf("with %s, the server read %s, want %s", addrs, got, want)
				}
			}
		})
	}
}

// TestFloodStarvesNoFamily checks that datagrams of each family are read while more of the
// other family wait than can be read.
func TestFloodStarvesNoFamily(t *testing.T) {
	v4, v6 := families[0], families[1]
	for _, flooded := range families {
		t.Run(flooded.name, func(t *testing.T) {
			pc := listenPacket(t, sites.NewSockets(new(planeStub)), freePort(t, v4.server, v6.server))
			other := v4
			if flooded == v4 {
				other = v6
			}
			flood := udpFrom(t, flooded.alias)
			for range 100 {
				send(t, flood, "flood", pc)
			}
			send(t, udpFrom(t, other.alias), "honest", pc)
			for range 40 {
				send(t, flood, "flood", pc)
				_, from, err := pc.ReadFrom(make([]byte, 16))
				if err != nil {
					t.Fatal(err)
				}
				if from.(*net.UDPAddr).AddrPort().Addr() == other.client {
					return
				}
			}
			t.Error("the datagram of the other family is not read")
		})
	}
}

// TestReaderMissesNoWakeUp checks that the reader of two sockets wakes up for each datagram,
// while clients of both families each wait for an answer before they send the next one.
func TestReaderMissesNoWakeUp(t *testing.T) {
	v4, v6 := families[0], families[1]
	pc := listenPacket(t, sites.NewSockets(new(planeStub)), freePort(t, v4.server, v6.server))
	go func() {
		buf := make([]byte, 16)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return // the test has ended
			}
			if _, err := pc.WriteTo(buf[:n], from); err != nil {
				t.Error(err)
			}
		}
	}()
	var clients sync.WaitGroup
	for _, f := range []family{v4, v6, v4, v6} {
		peer := udpFrom(t, f.alias)
		server := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to(f.alias, pc.LocalAddr())))
		clients.Go(func() {
			buf := make([]byte, 16)
			for i := range 2000 {
				if _, err := peer.WriteTo([]byte("x"), server); err != nil {
					t.Error(err)
					return
				}
				if _, _, err := peer.ReadFrom(buf); err != nil {
					t.Errorf("%s datagram %d is not answered: %v", f.name, i, err)
					return
				}
			}
		})
	}
	clients.Wait()
}
