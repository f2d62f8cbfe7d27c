package sites_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// TestEndsAreTheClients checks that a connection has the addresses that its client sees. A
// connection from the host itself has those of its socket.
func TestEndsAreTheClients(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		l := listen(t, sites.NewSockets(new(planeStub)), at)
		if got := l.Addr().String(); got != firstOf(at) {
			t.Errorf("Addr is %s, want %s", got, firstOf(at))
		}
		out := dialFrom(t, f.alias, l)
		in := accept(t, l)
		port := out.LocalAddr().(*net.TCPAddr).AddrPort().Port()
		if got, want := in.RemoteAddr().String(), netip.AddrPortFrom(f.client, port).String(); got != want {
			t.Errorf("RemoteAddr is %s, want the client %s", got, want)
		}
		if got, want := in.LocalAddr().String(), netip.AddrPortFrom(f.dialed, at.Port).String(); got != want {
			t.Errorf("LocalAddr is %s, want what the client dialed, %s", got, want)
		}
		if f.server == f.alias {
			return // the host's own connections cannot be told apart
		}

		out = dialFrom(t, f.server, l)
		in = accept(t, l)
		if got, want := in.RemoteAddr().String(), out.LocalAddr().String(); got != want {
			t.Errorf("RemoteAddr of the host's own connection is %s, want %s", got, want)
		}
		if got, want := in.LocalAddr().String(), netip.AddrPortFrom(f.server, at.Port).String(); got != want {
			t.Errorf("LocalAddr of the host's own connection is %s, want %s", got, want)
		}
	})
}

// TestClientsConnectionIsStillTCP checks that a connection has the methods of a TCP connection
// that net/http and its handlers use.
func TestClientsConnectionIsStillTCP(t *testing.T) {
	l := listen(t, sites.NewSockets(new(planeStub)), freePort(t))
	out := dialFrom(t, alias, l)
	in, ok := accept(t, l).(interface {
		net.Conn
		io.ReaderFrom
		io.WriterTo
		syscall.Conn
		CloseRead() error
		CloseWrite() error
		SetKeepAliveConfig(net.KeepAliveConfig) error
	})
	if !ok {
		t.Fatal("a method of *net.TCPConn is missing")
	}

	content := bytes.Repeat([]byte("vnic"), 1<<18)
	path := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	go func() {
		in.ReadFrom(file)
		in.CloseWrite()
	}()
	got, err := io.ReadAll(out)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("read %d bytes of the file, %v; want %d", len(got), err, len(content))
	}
}

func TestCloseWakesOnlyItsOwnAccept(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	older, newer := listen(t, sockets, at), listen(t, sockets, at)
	woken := make(chan error)
	go func() {
		_, err := older.Accept()
		woken <- err
	}()
	time.Sleep(10 * time.Millisecond) // gives it time to block; the test passes without, too
	if err := older.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returned %v, want net.ErrClosed", err)
	}
	if _, err := older.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close returned %v, want net.ErrClosed", err)
	}
	if err := older.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close returned %v, want net.ErrClosed", err)
	}
	dialFrom(t, alias, newer)
	accept(t, newer)
}

// takers accepts and closes the connections of listeners, and tells for each connection which
// listener got it.
func takers(listeners ...net.Listener) <-chan net.Listener {
	taken := make(chan net.Listener)
	for _, l := range listeners {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
				taken <- l
			}
		}()
	}
	return taken
}

// TestNewestListenerIsPreferred checks that the newest listener gets all connections. If two
// listeners took turns, each would get half.
func TestNewestListenerIsPreferred(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	older, newer := listen(t, sockets, at), listen(t, sockets, at)
	taken := takers(older, newer)
	byNewer := 0
	for range 100 {
		time.Sleep(time.Millisecond) // gives both time to block in Accept again
		dialFrom(t, alias, newer)
		if <-taken == newer {
			byNewer++
		}
	}
	if byNewer < 75 {
		t.Errorf("the newer listener got %d of 100 connections", byNewer)
	}
}

func TestOlderListenerServesUntilTheNewerAccepts(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	older := listen(t, sockets, at)
	listen(t, sockets, at) // a configuration that never comes to Serve
	dialFrom(t, alias, older)
	accept(t, older)
}

func TestSocketClosesWithTheLastListener(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t)
	first, second := listen(t, sockets, at), listen(t, sockets, at)
	first.Close()
	dialFrom(t, alias, second)
	second.Close()
	if c, err := net.Dial("tcp", firstOf(at)); err == nil {
		c.Close()
		t.Error("the socket still listens")
	}
	dialFrom(t, alias, listen(t, sockets, at)) // and can be opened again
}

func TestPortIsOpenWhileAListenerLives(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, _ family) {
		plane := new(planeStub)
		sockets := sites.NewSockets(plane)
		key := "a tcp/" + port(at)
		first, second := listen(t, sockets, at), listen(t, sockets, at)
		if n := plane.opened(key); n != 2 {
			t.Errorf("%s is open %d times, want 2", key, n)
		}
		first.Close()
		first.Close()
		if n := plane.opened(key); n != 1 {
			t.Errorf("%s is open %d times after one listener closed, want 1", key, n)
		}
		second.Close()
		if n := plane.opened(key); n != 0 {
			t.Errorf("%s is open %d times after all closed", key, n)
		}
	})
}

// TestListenFailureOpensNothing checks that a listener that cannot have one of its addresses
// opens neither port nor socket.
func TestListenFailureOpensNothing(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		plane := new(planeStub)
		taken, err := net.Listen("tcp", netip.AddrPortFrom(f.server, at.Port).String())
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		_, err = sites.NewSockets(plane).Listen(context.Background(), at, net.ListenConfig{})
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen returned %v, want address in use", err)
		}
		if len(plane.open) != 0 {
			t.Errorf("ports are open: %v", plane.open)
		}
		taken.Close()
		expectRefused(t, at)
	})
}
