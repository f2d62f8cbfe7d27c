package integration_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A5: 2,000 client addresses at once, many times more than the 253 aliases of
// the segment, reach one port of it: from ports of their own, as web clients do,
// all from the same port, as NTP does, and with the same ICMP identifier, as
// Windows' ping does. Each gets its own answer, twice.
func TestManyClients(t *testing.T) {
	const clients = 2000
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		addresses := s.addClients(clients)
		s.start(caddyfile{datapath: datapath, a: "ports any"})
		s.echoPeers("192.168.50.1:123")
		s.listen(s.Server, "192.168.50.1:8001", sayPeer)

		t.Run("one UDP port", func(t *testing.T) {
			defer s.in(t)()
			s.askFromAll(addresses, 123)
		})
		t.Run("one ICMP identifier", func(t *testing.T) {
			defer s.in(t)()
			s.pingFromAll(addresses, 1)
		})
		t.Run("ports of their own", func(t *testing.T) {
			defer s.in(t)()
			s.connectFromAll(addresses)
		})
		status := s.status()
		if got := status.Segments["a"].NewFlows; got != 3*clients {
			t.Errorf("%d flows for %d clients, each with three", got, clients)
		}
		if drops := status.Bridges["lan"].Drops; len(drops) > 0 {
			t.Errorf("dropped on the NIC: %v", drops)
		}
	})
}

// addClients gives PC1 further addresses, 10.20.0.1 and so on, behind the router.
func (s *scene) addClients(n int) (addresses []netip.Addr) {
	s.t.Helper()
	s.ip(s.Router, "route add 10.20.0.0/16 via 192.168.10.2")
	lo, err := s.PC1.Netlink().LinkByName("lo")
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range n {
		address := netip.AddrFrom4([4]byte{10, 20, byte((i + 1) >> 8), byte(i + 1)})
		ip := &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(32, 32)}
		if err := s.PC1.Netlink().AddrAdd(lo, &netlink.Addr{IPNet: ip}); err != nil {
			s.t.Fatal(err)
		}
		addresses = append(addresses, address)
	}
	return addresses
}

// sockets opens a datagram socket for each address, all before the first is used.
func (s *scene) sockets(addresses []netip.Addr, open func(netip.Addr) (net.PacketConn, error)) (conns []net.PacketConn) {
	s.t.Helper()
	err := s.PC1.Do(func() error {
		for _, address := range addresses {
			conn, err := open(address)
			if err != nil {
				return err
			}
			s.t.Cleanup(func() { conn.Close() })
			conns = append(conns, conn)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return conns
}

// inTurn has each socket ask before any reads its answer, but never so many that
// a queue on the way overflows.
func inTurn(conns []net.PacketConn, ask, hear func(i int, conn net.PacketConn) error) error {
	const atOnce = 100
	for first := 0; first < len(conns); first += atOnce {
		some := conns[first:min(first+atOnce, len(conns))]
		for _, step := range []func(int, net.PacketConn) error{ask, hear} {
			for i, conn := range some {
				if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
					return err
				}
				if err := step(first+i, conn); err != nil {
					return fmt.Errorf("%s: %w", conn.LocalAddr(), err)
				}
			}
		}
	}
	return nil
}

// askFromAll sends datagrams from the same port of all addresses. The segment
// must see each under a name of its own.
func (s *scene) askFromAll(addresses []netip.Addr, port uint16) {
	s.t.Helper()
	conns := s.sockets(addresses, func(address netip.Addr) (net.PacketConn, error) {
		return net.ListenPacket("udp4", netip.AddrPortFrom(address, port).String())
	})
	server := net.UDPAddrFromAddrPort(netip.AddrPortFrom(paper.PseudoAddr, 123))
	seen := make(map[string]int)
	ask := func(i int, conn net.PacketConn) error {
		_, err := conn.WriteTo(fmt.Appendf(nil, "%d", i), server)
		return err
	}
	hear := func(i int, conn net.PacketConn) error {
		answer := make([]byte, 100)
		n, from, err := conn.ReadFrom(answer)
		if err != nil {
			return err
		}
		echoed, name, _ := strings.Cut(string(answer[:n]), " ")
		if echoed != fmt.Sprint(i) || from.String() != server.String() {
			return fmt.Errorf("got %q from %s", answer[:n], from)
		}
		if other, taken := seen[name]; taken && other != i {
			return fmt.Errorf("is seen as %s, as client %d is", name, other)
		}
		seen[name] = i
		return nil
	}
	for range 2 {
		if err := inTurn(conns, ask, hear); err != nil {
			s.t.Fatal(err)
		}
	}
	if len(seen) != len(addresses) {
		s.t.Errorf("%d clients are seen under %d names", len(addresses), len(seen))
	}
	kept := 0
	for name := range seen {
		if netip.MustParseAddrPort(name).Port() == port {
			kept++
		}
	}
	if aliases := 253; kept != aliases {
		s.t.Errorf("%d clients kept their port, want %d: as many as there are aliases", kept, aliases)
	}
}

// pingFromAll pings with one identifier from all addresses.
func (s *scene) pingFromAll(addresses []netip.Addr, id int) {
	s.t.Helper()
	conns := s.sockets(addresses, func(address netip.Addr) (net.PacketConn, error) {
		return icmp.ListenPacket("ip4:icmp", address.String())
	})
	ask := func(i int, conn net.PacketConn) error {
		data := binary.BigEndian.AppendUint32(nil, uint32(i))
		request, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: 1, Data: data}}).Marshal(nil)
		if err == nil {
			_, err = conn.WriteTo(request, &net.IPAddr{IP: paper.PseudoAddr.AsSlice()})
		}
		return err
	}
	hear := func(i int, conn net.PacketConn) error {
		buffer := make([]byte, 100)
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(int(ipv4.ICMPTypeEchoReply.Protocol()), buffer[:n])
		if err != nil {
			return err
		}
		echo, ok := m.Body.(*icmp.Echo)
		if !ok || m.Type != ipv4.ICMPTypeEchoReply || echo.ID != id || binary.BigEndian.Uint32(echo.Data) != uint32(i) {
			return fmt.Errorf("got %+v", m)
		}
		return nil
	}
	for range 2 {
		if err := inTurn(conns, ask, hear); err != nil {
			s.t.Fatal(err)
		}
	}
}

// connectFromAll holds a connection from each address.
func (s *scene) connectFromAll(addresses []netip.Addr) {
	s.t.Helper()
	for _, address := range addresses {
		conn, err := s.dialFrom(s.PC1, netip.AddrPortFrom(address, 0).String(), "tcp4", "192.168.1.2:8001")
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { conn.Close() })
		alias := make([]byte, 100)
		n, err := conn.Read(alias)
		if err != nil || !strings.HasPrefix(string(alias[:n]), "192.168.50.") {
			s.t.Fatalf("%s is seen as %q (%v)", address, alias[:n], err)
		}
	}
}
