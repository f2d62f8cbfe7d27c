// Package testsite has what the tests of leanproxy and http1 share: the listeners that
// a site on a segment has, on loopback addresses and without devices, and clients that
// speak HTTP byte by byte.
package testsite

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Patience is longer than anything takes that works.
const Patience = 20 * time.Second

// plane has no segments: a listener's clients are the host's own.
type plane struct{}

func (plane) OpenPort(string, config.PortRange) (release func()) { return func() {} }

func (plane) Ends(string, config.Protocol, netip.AddrPort, netip.AddrPort) (ends vnicbridge.Ends, ok bool) {
	return ends, false
}

func (plane) Alias(string, config.Protocol, netip.AddrPort, vnicbridge.Ends) (alias netip.AddrPort, ok bool) {
	return alias, false
}

func (plane) In(_ string, f func() error) error { return f() }

var sockets = sites.NewSockets(plane{})

// Listen listens as a site on a segment does.
func Listen(ctx context.Context, address string, cfg net.ListenConfig) (net.Listener, error) {
	local, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	return sockets.Listen(ctx, sites.Address{Addrs: []netip.Addr{local.Addr()}, Port: local.Port()}, cfg)
}

// FreeAddress is a loopback address and a port that nothing listens on, and that no
// other call has returned: the kernel may give a port that was just closed to the next
// who asks.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", ownAddress+":0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		if _, again := given.LoadOrStore(address, nil); !again {
			return address
		}
	}
}

// given are the addresses that FreeAddress has returned.
var given sync.Map

// ownAddress is no other process's, as packages are tested side by side: it has the
// process's number, of 22 bits at most, in it.
var ownAddress = fmt.Sprintf("127.%d.%d.%d", os.Getpid()>>14&0xff, os.Getpid()>>6&0xff, os.Getpid()<<2&0xff|1)

// Dial connects to an address, for as long as [Patience] and the test last.
func Dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(Patience))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Request completes a request: with Host and other fields, each with its end of line,
// after the first line, and with the empty line after the head if it has none.
func Request(text string, fields ...string) string {
	line, rest, _ := strings.Cut(text, "\r\n")
	if !strings.Contains(rest, "\r\n\r\n") {
		rest += "\r\n"
	}
	return line + "\r\nHost: localhost\r\n" + strings.Join(fields, "") + rest
}

// WaitFor waits until something holds.
func WaitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("it is not so that %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
