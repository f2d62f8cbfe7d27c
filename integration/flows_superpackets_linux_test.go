package integration_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F8: root in a segment sends super-packets whose pieces, as it says, are larger than
// the NIC's MTU (PACKET_VNET_HDR of packet(7)). No such piece leaves by the NIC. Pieces
// that fit do.
func TestSuperPackets(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NoOffloads: true})
		s.start(caddyfile{datapath: datapath, a: "ports any"})
		server := s.packetConn(s.Server, "192.168.50.1:5000")
		client := s.packetConn(s.PC1, "192.168.10.2:7000")
		send(t, client, "192.168.1.2:5000", "hello")
		_, from := receive(t, server)
		alias := netip.MustParseAddrPort(from)
		nic := s.capture(s.Server, paper.NICDevice)
		for _, size := range []uint16{1472, 1473, 8000, 65535} {
			s.sendSuper(alias, size)
		}
		s.waitFor("the others are refused", func() bool { return s.status().Segments["a"].Drops["too_big"] >= 2 })
		send(t, server, from, "behind them")
		if got, _ := receiveSmall(t, client); got != "behind them" {
			t.Errorf("PC1 got %q", got)
		}
		pieces := 0
		for _, f := range s.frames(nic) {
			if !f.Outgoing {
				continue
			}
			if len(f.Data) > 1514 {
				t.Errorf("the NIC sent a frame of %d bytes", len(f.Data))
			}
			if len(f.Data) == 1514 {
				pieces++
			}
		}
		if pieces < 2 {
			t.Errorf("%d pieces of the super-packet that fits left, want more", pieces)
		}
	})
}

// sendSuper has the segment's server send a datagram to a client by a packet socket, to be
// cut into pieces of so much payload. What the kernel refuses by itself is sent, too.
func (s *scene) sendSuper(to netip.AddrPort, size uint16) {
	s.t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{192, 168, 50, 1}, DstIP: to.Addr().AsSlice()}
	udp := &layers.UDP{SrcPort: 5000, DstPort: layers.UDPPort(to.Port())}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		s.t.Fatal(err)
	}
	frame := serialize(
		&layers.Ethernet{SrcMAC: net.HardwareAddr{0x50, 1, 2, 3, 4, 5}, DstMAC: paper.RouterMAC, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(bytes.Repeat([]byte("x"), 20000)))
	header := make([]byte, 10) // struct virtio_net_hdr
	header[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
	header[1] = unix.VIRTIO_NET_HDR_GSO_UDP_L4
	binary.NativeEndian.PutUint16(header[2:], 42) // hdr_len
	binary.NativeEndian.PutUint16(header[4:], size)
	binary.NativeEndian.PutUint16(header[6:], 34) // csum_start
	binary.NativeEndian.PutUint16(header[8:], 6)  // csum_offset
	err := s.Server.Do(func() error {
		device, err := net.InterfaceByName("vnic-A")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		err = unix.Sendto(fd, append(header, frame...), 0, &unix.SockaddrLinklayer{Ifindex: device.Index})
		if err == unix.EINVAL && size == 65535 {
			err = nil // GSO_BY_FRAGS: kernels refuse it
		}
		return err
	})
	if err != nil {
		s.t.Fatalf("a super-packet in pieces of %d bytes: %v", size, err)
	}
}

// receiveSmall leaves out datagrams that do not fit.
func receiveSmall(t *testing.T, conn net.PacketConn) (what, from string) {
	t.Helper()
	for {
		if what, from = receive(t, conn); len(what) < 100 {
			return what, from
		}
	}
}
