package sites_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// The tests' network. Clients dial from an address of the loopback network that stands for an
// alias.
var (
	server = netip.MustParseAddr("127.0.0.1")
	alias  = netip.MustParseAddr("127.0.0.2")
	client = netip.MustParseAddr("203.0.113.7")
	dialed = netip.MustParseAddr("192.0.2.1")
)

// planeStub translates between one alias and one client, and counts the open ports. The tests
// with devices cover the real plane's translation.
type planeStub struct {
	mu   sync.Mutex
	open map[string]int
}

func (p *planeStub) OpenPort(segment string, port config.PortRange) func() {
	p.count(segment+" "+port.String(), 1)
	return func() { p.count(segment+" "+port.String(), -1) }
}

func (p *planeStub) count(key string, delta int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = make(map[string]int)
	}
	p.open[key] += delta
}

func (p *planeStub) opened(key string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[key]
}

func (p *planeStub) Ends(_ string, _ config.Protocol, local, remote netip.AddrPort) (vnicbridge.Ends, bool) {
	return vnicbridge.Ends{
		Client: netip.AddrPortFrom(client, remote.Port()), Dialed: netip.AddrPortFrom(dialed, local.Port()),
	}, remote.Addr() == alias
}

func (p *planeStub) Alias(_ string, _ config.Protocol, local netip.AddrPort, ends vnicbridge.Ends) (netip.AddrPort, bool) {
	known := !ends.Dialed.IsValid() || ends.Dialed == netip.AddrPortFrom(dialed, local.Port())
	return netip.AddrPortFrom(alias, ends.Client.Port()), known && ends.Client.Addr() == client
}

func (p *planeStub) In(_ string, f func() error) error { return f() }

// freePort returns a port of the server's address on which nothing listens.
func freePort(t *testing.T) sites.Address {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(server, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return sites.Address{Segment: "a", Local: l.Addr().(*net.TCPAddr).AddrPort()}
}

func listen(t *testing.T, s *sites.Sockets, at sites.Address) net.Listener {
	t.Helper()
	l, err := s.Listen(context.Background(), at, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dialFrom connects to a listener from a given address.
func dialFrom(t *testing.T, from netip.Addr, l net.Listener) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
