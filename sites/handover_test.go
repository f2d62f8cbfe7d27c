package sites_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// TestHandoverKeepsTheQueue checks that the next configuration serves connections that wait in
// the accept queue when a configuration ends.
func TestHandoverKeepsTheQueue(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		sockets := sites.NewSockets(new(planeStub))
		older := listen(t, sockets, at)
		const waiting = 50
		for range waiting {
			dialFrom(t, f.alias, older)
		}
		newer := listen(t, sockets, at)
		older.Close()
		for range waiting {
			accept(t, newer)
		}
	})
}

// Servers take over from each other, as in Caddy's reloads, while clients open a
// connection for each request. The servers are plain ones, which need no HandOver.
func TestHandoverUnderLoadLosesNothing(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, _ family) {
		sockets := sites.NewSockets(new(planeStub))
		stop := serve(t, sockets, at)

		ctx, cancel := context.WithCancel(context.Background())
		var (
			clients  sync.WaitGroup
			requests atomic.Int64
		)
		for i := range 4 {
			clients.Go(func() {
				for ctx.Err() == nil {
					if err := request(netip.AddrPortFrom(at.Addrs[i%len(at.Addrs)], at.Port).String()); err != nil {
						t.Error(err)
						return
					}
					requests.Add(1)
				}
			})
		}
		const generations = 200
		for range generations {
			next := serve(t, sockets, at)
			stop()
			stop = next
			time.Sleep(2 * time.Millisecond)
		}
		cancel()
		clients.Wait()
		stop()
		if n := requests.Load(); n < generations {
			t.Errorf("only %d requests were made: no load", n)
		}
	})
}

// serve starts a server that answers "pong" to "ping". stop ends it when it has answered on all
// connections that it accepted.
func serve(t *testing.T, sockets *sites.Sockets, at sites.Address) (stop func()) {
	t.Helper()
	l, err := sockets.Listen(context.Background(), at, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			running.Go(func() {
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, len("ping"))); err != nil {
					t.Error(err)
				}
				io.WriteString(c, "pong")
			})
		}
	})
	return func() {
		l.Close()
		running.Wait()
	}
}

func request(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "ping"); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && string(answer) != "pong" {
		err = fmt.Errorf("answer %q", answer)
	}
	return err
}

// A listener gets no connection from an older one before its configuration has started.
func TestHandoverWaitsForTheStart(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		sockets := sites.NewSockets(new(planeStub))
		older := listen(t, sockets, at)
		started := make(chan struct{})
		at.Started = started
		newer := listen(t, sockets, at)
		taken := takers(older, newer)
		want := func(l net.Listener, name string) {
			t.Helper()
			for range 20 {
				dialFrom(t, f.alias, older)
				if <-taken != l {
					t.Fatalf("another than the %s listener has accepted", name)
				}
			}
		}
		want(older, "older")
		close(started)
		sockets.HandOver()
		want(newer, "newer")
	})
}

// TestHandOverTakesWhatWaits checks that HandOver gives the newer listener the connections of
// each family that wait for an older one, without waiting for the older one's end.
func TestHandOverTakesWhatWaits(t *testing.T) {
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t, families[0].server, families[1].server)
	older := listen(t, sockets, at)
	dialFrom(t, alias, older)
	accept(t, older) // its server has begun to accept
	started := make(chan struct{})
	at.Started = started
	newer := listen(t, sockets, at)
	taken := takers(newer)
	for _, f := range families {
		dialFrom(t, f.alias, older)
	}
	time.Sleep(20 * time.Millisecond) // for the offers to the older listener
	close(started)
	go sockets.HandOver()
	for range families {
		select {
		case <-taken:
		case <-time.After(time.Second):
			t.Fatal("a connection still waits for the older listener")
		}
	}
}
