package sites_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// TestStopClosesTheListeners checks that a stopped segment refuses connections, and that its
// servers' Accept waits and never fails, also for a configuration that comes meanwhile.
func TestStopClosesTheListeners(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		plane := new(planeStub)
		sockets := sites.NewSockets(plane)
		older := listen(t, sockets, at)
		sockets.Stop("a")
		newer := listen(t, sockets, at)
		accepted := make(chan net.Conn, 2)
		for _, l := range []net.Listener{older, newer} {
			go func() {
				c, err := l.Accept()
				if err != nil && !errors.Is(err, net.ErrClosed) {
					t.Errorf("Accept failed: %v", err)
				}
				accepted <- c
			}()
		}
		expectRefused(t, at)
		older.Close() // the reload ends
		if c := <-accepted; c != nil {
			t.Error("a stopped listener accepted")
		}
		expectRefused(t, at)
		if plane.opened("a tcp/"+port(at)) != 0 {
			t.Error("the port of a stopped segment is open")
		}
		if newer.Addr().String() != firstOf(at) {
			t.Errorf("the address of a stopped listener is %s", newer.Addr())
		}

		if err := sockets.Start(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if n := plane.opened("a tcp/" + port(at)); n != 1 {
			t.Errorf("the port is open %d times after the start", n)
		}
		dialFrom(t, f.alias, newer)
		c := <-accepted
		if c == nil {
			t.Fatal("the listener does not accept after the start")
		}
		c.Close()
	})
}

func TestStopLeavesOtherSegments(t *testing.T) {
	sockets, a, b := sites.NewSockets(new(planeStub)), freePort(t), freePort(t)
	b.Segment, b.Addrs = "b", []netip.Addr{alias} // never a's address
	listen(t, sockets, a)
	other := listen(t, sockets, b)
	sockets.Stop("a")
	expectRefused(t, a)
	dialFrom(t, alias, other)
	accept(t, other)
}

// TestStopServesTheQueue checks that connections from before the stop are served.
func TestStopServesTheQueue(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		sockets := sites.NewSockets(new(planeStub))
		l := listen(t, sockets, at)
		const waiting = 20
		for range waiting {
			dialFrom(t, f.alias, l)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			for range waiting {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
			}
		}()
		sockets.Stop("a")
		select {
		case <-served:
		case <-time.After(5 * time.Second):
			t.Error("connections of before the stop were not handed out")
		}
		expectRefused(t, at)
	})
}

func TestStopWithoutAServerThatAccepts(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		sockets := sites.NewSockets(new(planeStub))
		l := listen(t, sockets, at)
		c := dialFrom(t, f.alias, l)
		sockets.Stop("a")
		expectRefused(t, at)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection that nobody accepted reads %v, want its end", err)
		}
	})
}

func TestStartThatFailsLeavesItStopped(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		plane := new(planeStub)
		sockets := sites.NewSockets(plane)
		l := listen(t, sockets, at)
		sockets.Stop("a")
		sockets.Stop("a")
		taken, err := net.Listen("tcp", netip.AddrPortFrom(f.server, at.Port).String())
		if err != nil {
			t.Fatal(err)
		}
		if err := sockets.Start(t.Context(), "a"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Start returned %v, want address in use", err)
		}
		if plane.opened("a tcp/"+port(at)) != 0 || len(sockets.Leaving()) != 1 {
			t.Error("the segment is half started")
		}
		taken.Close()
		expectRefused(t, at)
		if err := sockets.Start(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		dialFrom(t, f.alias, l)
		accept(t, l)
	})
}

// httpClient is a client with one connection, and sees its end.
type httpClient struct {
	*http.Client
	closed chan struct{}
}

func clientOf(s *httptest.Server) httpClient {
	closed := make(chan struct{})
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: alias.AsSlice()}}
		c, err := d.DialContext(ctx, network, s.Listener.Addr().String())
		return &watchedConn{Conn: c, closed: closed}, err
	}
	return httpClient{&http.Client{Transport: transport}, closed}
}

func (c httpClient) expectClosed(t *testing.T) {
	t.Helper()
	select {
	case <-c.closed:
	case <-time.After(5 * time.Second):
		t.Error("the server keeps the connection")
	}
}

type watchedConn struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (c *watchedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func fetch(t *testing.T, client *http.Client, url string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "done" {
		t.Fatalf("the answer is %q, %v", body, err)
	}
}

// TestStopClosesPacketConns checks that a stop closes a UDP socket, and that its reader waits.
func TestStopClosesPacketConns(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		plane := new(planeStub)
		sockets := sites.NewSockets(plane)
		pc := listenPacket(t, sockets, at)
		sockets.Stop("a")
		expectUnreachable(t, at)
		if plane.opened("a udp/"+port(at)) != 0 {
			t.Error("the port of a stopped segment is open")
		}
		later := listenPacket(t, sockets, at)
		expectUnreachable(t, at)
		pc.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := pc.ReadFrom(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ReadFrom returned %v, want the deadline", err)
		}
		if _, err := pc.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.client, 9))); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("WriteTo returned %v, want host unreachable", err)
		}
		if got := pc.LocalAddr().String(); got != firstOf(at) {
			t.Errorf("the address of a stopped socket is %s", got)
		}
		pc.Close()

		got := make(chan string)
		go func() {
			buf := make([]byte, 16)
			n, _, err := later.ReadFrom(buf)
			if err != nil {
				t.Error(err)
			}
			got <- string(buf[:n])
		}()
		if err := sockets.Start(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		send(t, udpFrom(t, f.alias), "ping", later)
		if s := <-got; s != "ping" {
			t.Errorf("the reader got %q after the start", s)
		}
	})
}

// TestStopLetsDatagramsFinish checks that a UDP server that is sending can continue until it
// pauses.
func TestStopLetsDatagramsFinish(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		sockets := sites.NewSockets(new(planeStub))
		pc, peer := listenPacket(t, sockets, at), udpFrom(t, f.alias)
		exchange(t, peer, pc)
		sockets.Stop("a")
		exchange(t, peer, pc)
		for deadline := time.Now().Add(10 * time.Second); !unreachable(t, at); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the silent socket is still open")
			}
		}
	})
}

func port(at sites.Address) string { return strconv.Itoa(int(at.Port)) }

func expectRefused(t *testing.T, at sites.Address) {
	t.Helper()
	for _, addr := range at.Addrs {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, at.Port).String(), 5*time.Second)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connecting to a stopped segment at %s: %v, want connection refused", addr, err)
		}
	}
}

func expectUnreachable(t *testing.T, at sites.Address) {
	t.Helper()
	if !unreachable(t, at) {
		t.Errorf("%v takes datagrams of a stopped segment", at.Addrs)
	}
}

// unreachable tells whether datagrams are answered with port unreachable, at each address.
func unreachable(t *testing.T, at sites.Address) bool {
	t.Helper()
	return !slices.ContainsFunc(at.Addrs, func(addr netip.Addr) bool { return !unreachableAt(t, addr, at.Port) })
}

func unreachableAt(t *testing.T, addr netip.Addr, port uint16) bool {
	t.Helper()
	c, err := net.Dial("udp", netip.AddrPortFrom(addr, port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Millisecond))
	c.Write([]byte("x"))
	_, err = c.Read(make([]byte, 1))
	return errors.Is(err, syscall.ECONNREFUSED)
}
