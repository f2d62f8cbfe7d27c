package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// Rows L2, L6, S1, S3 and S5: a neighbour floods the server with 120,000 frames
// of every kind, as fast as it can, beside a client whose requests all succeed.
// Nothing reaches a segment that the policy does not name, and what is dropped is
// counted by reason.
func TestHostileNeighbour(t *testing.T) {
	const frames, requests = 120000, 100
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, integration.PaperOptions{NAT: true, Neighbours: 1})
		s.start(caddyfile{datapath: datapath})
		vnicB := s.capture(s.Server, "vnic-B")

		flood := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { flood <- s.flood(ctx, s.Neighbours[0], frames) }()
		if served := s.serveUntil(flood); served < requests {
			t.Errorf("PC1 was served %d times during the flood, want at least %d", served, requests)
		}
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("after the flood PC1 got %q", got)
		}

		if got := s.frames(vnicB); len(got) > 0 {
			t.Errorf("%d frames on vnic-B; the first: %x", len(got), got[0].Data)
		}
		status := s.status()
		drops := status.Bridges["lan"].Drops
		for _, reason := range []string{
			"malformed", "vlan", "broadcast_or_multicast", "arp", "bad_source", "protocol", "icmp", "no_flow", "port_not_open",
		} {
			if drops[reason] == 0 {
				t.Errorf("nothing was dropped as %s: %v", reason, drops)
			}
		}
		if b := status.Segments["b"]; b.NewFlows != 0 || b.Packets.Out != 0 {
			t.Errorf("segment b was reached: %+v", b)
		}
	})
}

// serveUntil makes requests, which must all succeed, until the flood is over.
func (s *scene) serveUntil(flood <-chan error) (served int) {
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
		if body, err := fetch(client, "http://192.168.1.2/"); err != nil || body != "a" {
			s.t.Fatalf("during the flood PC1 got %q (%v)", body, err)
		}
		served++
	}
}

// flood sends hostile frames from a host until all are sent or ctx ends.
func (s *scene) flood(ctx context.Context, from *integration.Host, frames int) error {
	conn, mac, err := rawSocket(from, "eth0")
	if err != nil {
		return err
	}
	defer conn.Close()
	h := newHostile(mac)
	for i := 0; i < frames && ctx.Err() == nil; i++ {
		if _, err := conn.WriteTo(h.frame(), &packet.Addr{HardwareAddr: integration.NICMAC}); err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
	}
	return ctx.Err()
}

// rawSocket opens an AF_PACKET socket on a device of a host.
func rawSocket(h *integration.Host, device string) (conn *packet.Conn, mac net.HardwareAddr, err error) {
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

// hostile makes hostile frames, the same in every run. The sender's MAC is its
// own, lest the switch be fooled in place of the bridge.
type hostile struct {
	random    *rand.Rand
	mac       net.HardwareAddr
	templates [][]byte // real frames
	wrong     [][]byte // from sources that nobody outside can have
}

func newHostile(mac net.HardwareAddr) *hostile {
	h := &hostile{random: rand.New(rand.NewPCG(2, 6)), mac: mac}
	question := arpRequest(mac, netip.MustParseAddr("192.168.1.11"), netip.MustParseAddr("192.168.50.1"))
	copy(question, integration.NICMAC)
	h.templates = append(h.realFrames("192.168.1.11"), question)
	for _, source := range []string{
		"192.168.50.1", "192.168.50.2", "192.168.60.1", "192.168.1.2", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
	} {
		h.wrong = append(h.wrong, h.realFrames(source)...)
	}
	return h
}

// realFrames are frames from a source to the pseudo address, with valid checksums.
func (h *hostile) realFrames(source string) (frames [][]byte) {
	eth := &layers.Ethernet{SrcMAC: h.mac, DstMAC: integration.NICMAC, EthernetType: layers.EthernetTypeIPv4}
	build := func(proto layers.IPProtocol, payload ...gopacket.SerializableLayer) {
		ip := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: proto,
			SrcIP: net.ParseIP(source), DstIP: integration.PseudoAddr.AsSlice(),
		}
		for _, l := range payload {
			if transport, ok := l.(interface {
				SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
			}); ok {
				transport.SetNetworkLayerForChecksum(ip)
			}
		}
		frames = append(frames, serialize(append([]gopacket.SerializableLayer{eth, ip}, payload...)...))
	}
	tcp, udp, icmp := layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolICMPv4
	build(tcp, &layers.TCP{SrcPort: 1234, DstPort: 80, SYN: true, Window: 64240})
	build(tcp, &layers.TCP{SrcPort: 1234, DstPort: 80, ACK: true, PSH: true}, gopacket.Payload("GET / HTTP/1.0\r\n\r\n"))
	build(tcp, &layers.TCP{SrcPort: 1234, DstPort: 22, SYN: true})
	build(tcp, &layers.TCP{SrcPort: 1234, DstPort: 80, RST: true})
	build(udp, &layers.UDP{SrcPort: 1234, DstPort: 53}, gopacket.Payload("question"))
	build(icmp, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1}, gopacket.Payload("ping"))
	build(icmp, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(5, 1)}, gopacket.Payload("redirect"))
	build(layers.IPProtocolGRE, gopacket.Payload("no flow at all"))
	return frames
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		panic(err)
	}
	return buffer.Bytes()
}

// frame makes the next frame.
func (h *hostile) frame() []byte {
	switch h.random.IntN(6) {
	case 0:
		return h.noise()
	case 1:
		return h.mutated()
	case 2:
		return h.oneOf(h.wrong)
	case 3: // a VLAN tag
		f := h.oneOf(h.templates)
		return slices.Concat(f[:12], []byte{0x81, 0, 0, byte(1 + h.random.IntN(255))}, f[12:])
	case 4: // to everybody
		f := h.oneOf(h.templates)
		copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		return f
	default: // from a client of its own, as it should be
		f := h.oneOf(h.templates)
		copy(f[34:36], h.bytes(2))
		return f
	}
}

func (h *hostile) oneOf(frames [][]byte) []byte {
	return slices.Clone(frames[h.random.IntN(len(frames))])
}

// noise is random bytes: as they come, as ARP, or as IPv4 to the pseudo address.
func (h *hostile) noise() []byte {
	f := slices.Concat(integration.NICMAC, h.mac, h.bytes(2+h.random.IntN(1500)))
	switch h.random.IntN(3) {
	case 0:
		copy(f[12:], []byte{0x08, 0x06})
	case 1:
		copy(f[12:], []byte{0x08, 0x00})
		if len(f) >= 34 {
			copy(f[30:], integration.PseudoAddr.AsSlice())
		}
	}
	return f
}

// mutated is a real frame with some bytes behind the Ethernet header changed, or
// cut short, or both.
func (h *hostile) mutated() []byte {
	f := h.oneOf(h.templates)
	for range 1 + h.random.IntN(4) {
		at := 14 + h.random.IntN(len(f)-14)
		if at < 30 || at > 33 { // what is not for the pseudo address is not even looked at
			f[at] = byte(h.random.Uint32())
		}
	}
	if h.random.IntN(2) == 0 {
		f = f[:14+h.random.IntN(len(f)-14)]
	}
	return f
}

func (h *hostile) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.random.Uint32())
	}
	return b
}
