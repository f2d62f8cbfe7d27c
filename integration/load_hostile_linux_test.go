package integration_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows L2, L6, S1, S3 and S5: a neighbour sends 60,000 frames of every kind, as fast as it
// can, beside a client whose requests all succeed. No frame reaches a segment that the
// policy does not name, and the drops are counted by reason.
func TestHostileNeighbour(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true, Neighbours: 1})
		s.start(caddyfile{datapath: datapath})
		s.wantUnharmed("http://192.168.1.2/", func(mac net.HardwareAddr) framer { return newHostile(mac) },
			"malformed", "vlan", "broadcast_or_multicast", "arp", "bad_source", "protocol", "icmp", "no_flow", "port_not_open")
	})
}

// The same rows in IPv6: extension headers, fragments, NDP and MLD are among the frames.
func TestHostileNeighbourIPv6(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 1})
		s.start(caddyfile{datapath: datapath, families: "46"})
		s.wantService6()
		s.wantUnharmed("http://"+pseudo6+"/", func(mac net.HardwareAddr) framer { return newHostile6(mac) },
			"malformed", "vlan", "arp", "bad_source", "protocol", "icmp", "no_flow", "port_not_open")
		s.wantService6()
	})
}

// wantUnharmed floods the server, and checks that the client is served meanwhile, that segment b
// is not reached, and that drops of all the reasons are counted.
func (s *scene) wantUnharmed(url string, hostile func(net.HardwareAddr) framer, reasons ...string) {
	s.t.Helper()
	const frames, requests = 60000, 100
	vnicB := s.capture(s.Server, "vnic-B")
	flood := make(chan error, 1)
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	go func() { flood <- s.flood(ctx, s.Neighbours[0], frames, hostile) }()
	if served := s.serveUntil(url, "the hostile frames", flood); served < requests {
		s.t.Errorf("PC1 was served %d times during the flood, want at least %d", served, requests)
	}
	if got := s.get(url); got != "a" {
		s.t.Errorf("after the flood PC1 got %q", got)
	}
	s.wantNothingInto(vnicB)
	status := s.status()
	drops := status.Bridges["lan"].Drops
	for _, reason := range reasons {
		if drops[reason] == 0 {
			s.t.Errorf("nothing was dropped as %s: %v", reason, drops)
		}
	}
	if b := status.Segments["b"]; b.NewFlows != 0 || b.Packets.To != 0 {
		s.t.Errorf("segment b was reached: %+v", b)
	}
}

// wantNothingInto checks that no frame came into a segment. What the host's kernel says there by
// itself in IPv6 goes out of it.
func (s *scene) wantNothingInto(vnic *netlab.Capture) {
	s.t.Helper()
	for _, f := range s.frames(vnic) {
		if !f.Outgoing {
			s.t.Errorf("a frame came into the segment: %x", f.Data)
		}
	}
}

// serveUntil makes requests, which must all succeed, until a flood is over.
func (s *scene) serveUntil(url, name string, flood <-chan error) (served int) {
	s.t.Helper()
	client := s.PC1.HTTPClient()
	for {
		select {
		case err := <-flood:
			if err != nil {
				s.t.Fatal(err)
			}
			return served
		default:
		}
		if body, err := fetch(client, url); err != nil || body != "a" {
			s.t.Fatalf("beside %s PC1 got %q (%v)", name, body, err)
		}
		served++
	}
}

// framer makes one frame after the other.
type framer interface{ frame() []byte }

// flood sends hostile frames from a host until all are sent or ctx ends.
func (s *scene) flood(ctx context.Context, from *netlab.Host, frames int, hostile func(net.HardwareAddr) framer) error {
	conn, mac, err := rawSocket(from, "eth0")
	if err != nil {
		return err
	}
	defer conn.Close()
	h := hostile(mac)
	for i := 0; i < frames && ctx.Err() == nil; i++ {
		if _, err := conn.WriteTo(h.frame(), &packet.Addr{HardwareAddr: paper.NICMAC}); err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
	}
	return ctx.Err()
}

// rawSocket opens an AF_PACKET socket on a device of a host.
func rawSocket(h *netlab.Host, device string) (conn *packet.Conn, mac net.HardwareAddr, err error) {
	err = h.Do(func() error {
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		mac = ifi.HardwareAddr
		conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	return conn, mac, err
}

// sendFrames sends by a device, each frame to the MAC that it names.
func (s *scene) sendFrames(conn *packet.Conn, frames ...[]byte) {
	s.t.Helper()
	for _, data := range frames {
		if _, err := conn.WriteTo(data, &packet.Addr{HardwareAddr: data[:6]}); err != nil {
			s.t.Fatal(err)
		}
	}
}
