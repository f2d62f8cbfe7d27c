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

// family is the tests' network in one family. Clients dial from an address of the loopback
// network that stands for an alias.
type family struct {
	name                          string
	server, alias, client, dialed netip.Addr
}

// IPv6 has only one loopback address, so there every client comes from the alias.
var families = []family{
	newFamily("IPv4", "127.0.0.1", "127.0.0.2", "203.0.113.7", "192.0.2.1"),
	newFamily("IPv6", "::1", "::1", "2001:db8:7::7", "2001:db8::1"),
}

func newFamily(name, server, alias, client, dialed string) family {
	at := netip.MustParseAddr
	return family{name, at(server), at(alias), at(client), at(dialed)}
}

// The tests that are the same in both families use IPv4.
var server, alias, client = families[0].server, families[0].alias, families[0].client

// eachFamily runs a test with clients of each family, on a segment with one address and on
// one with both.
func eachFamily(t *testing.T, test func(t *testing.T, at sites.Address, f family)) {
	t.Helper()
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) { test(t, freePort(t, f.server), f) })
		t.Run(f.name+" of both", func(t *testing.T) { test(t, freePort(t, families[0].server, families[1].server), f) })
	}
}

// planeStub translates between the alias and the client of each family, and counts the open
// ports. The tests with devices cover the real plane's translation.
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
	for _, f := range families {
		if remote.Addr() == f.alias && local.Addr().Is4() == f.server.Is4() {
			return vnicbridge.Ends{
				Client: netip.AddrPortFrom(f.client, remote.Port()), Dialed: netip.AddrPortFrom(f.dialed, local.Port()),
			}, true
		}
	}
	return vnicbridge.Ends{}, false
}

func (p *planeStub) Alias(_ string, _ config.Protocol, local netip.AddrPort, ends vnicbridge.Ends) (netip.AddrPort, bool) {
	for _, f := range families {
		known := !ends.Dialed.IsValid() || ends.Dialed == netip.AddrPortFrom(f.dialed, local.Port())
		if known && ends.Client.Addr() == f.client && local.Addr().Is4() == f.server.Is4() {
			return netip.AddrPortFrom(f.alias, ends.Client.Port()), true
		}
	}
	return netip.AddrPort{}, false
}

func (p *planeStub) In(_ string, f func() error) error { return f() }

// freePort returns a port on which nothing listens on the given addresses of the server; on
// its IPv4 address if none is given.
func freePort(t *testing.T, addrs ...netip.Addr) sites.Address {
	t.Helper()
	if len(addrs) == 0 {
		addrs = []netip.Addr{server}
	}
	var taken []net.Listener
	defer func() {
		for _, l := range taken {
			l.Close()
		}
	}()
	for range 100 {
		at := sites.Address{Segment: "a", Addrs: addrs}
		free := true
		for _, addr := range addrs {
			l, err := net.Listen("tcp", netip.AddrPortFrom(addr, at.Port).String())
			if err != nil {
				free = false
				break
			}
			taken = append(taken, l)
			at.Port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		}
		if free {
			return at
		}
	}
	t.Fatalf("no port is free on %v", addrs)
	return sites.Address{}
}

// firstOf returns the address that stands for all of an [sites.Address].
func firstOf(at sites.Address) string { return netip.AddrPortFrom(at.Addrs[0], at.Port).String() }

// to returns the server's address to which a client at an address sends: the first one, or
// the one of the client's family.
func to(from netip.Addr, addr net.Addr) string {
	first := netip.MustParseAddrPort(addr.String())
	if first.Addr().Is4() == from.Is4() {
		return first.String()
	}
	for _, f := range families {
		if f.server.Is4() == from.Is4() {
			return netip.AddrPortFrom(f.server, first.Port()).String()
		}
	}
	return ""
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
	c, err := d.Dial("tcp", to(from, l.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	const patience = 10 * time.Second
	late := time.AfterFunc(patience, func() { l.Close() })
	defer late.Stop()
	c, err := l.Accept()
	if err != nil {
		t.Fatal("no connection came: ", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
