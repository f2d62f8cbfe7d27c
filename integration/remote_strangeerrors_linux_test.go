package integration_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row H8: the address has moved to a machine without the flows. A router's and a client's ICMP errors
// about them reach the sockets of the server, although no packet of the flows has come, and open no
// flow. A flood of them is bounded. Where the segment is not certain, they are dropped.
func TestErrorsAboutAnotherMachinesFlows(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newTwoMachines(t, datapath, "flow_hash", "preserve")
		s.config.families = "46"
		s.startOn(s.first)
		s.listen(s.far, farAddr+":9000", echo)
		s.listen(s.far, "["+farAddr6+"]:9000", echo)
		families := newStrangers(s)
		sent := s.capture(s.first.host, s.first.nic)
		var sessions []*session
		for i := range families {
			session := s.openSession(netip.AddrPortFrom(families[i].pseudo, 9000).String())
			session.want("the start")
			sessions = append(sessions, session)
		}
		for i := range families {
			families[i].followServer(sent.Frames())
		}
		s.killOn(s.first)
		s.startOn(s.second)

		for _, f := range families {
			server := f.connectedServer(5001)
			f.send(f.portUnreachable(f.datagram(5001)))
			wantError(t, "a datagram to a closed port of PC1", server, syscall.ECONNREFUSED)
			f.send(f.tooBig(f.segment()))
			s.waitFor("the server's kernel learns the path's MTU", func() bool {
				return strings.Contains(s.ip(s.far, "route get "+f.client.String()+" from "+f.server.String()), " mtu 1300 ")
			})
		}
		if n := s.second.status(s.scene).Flows; n != 0 {
			t.Errorf("%d flows were opened", n)
		}
		for _, session := range sessions {
			session.want("the errors")
		}

		for _, f := range families {
			reached := s.capture(s.far, tunnel)
			before, began := s.second.status(s.scene).Bridges["lan"].Drops["overload"], time.Now()
			const flood = 2000
			for range flood {
				f.send(f.tooBig(f.datagram(5002)))
			}
			var dropped uint64
			s.waitFor("the flood is over", func() bool {
				dropped = s.second.status(s.scene).Bridges["lan"].Drops["overload"] - before
				return uint64(f.errorsIn(reached.Frames()))+dropped >= flood
			})
			most := 100 + int(100*time.Since(began).Seconds()) + 1 // StrangeErrorRate
			if n := f.errorsIn(reached.Frames()); n == 0 || n > most {
				t.Errorf("of %d errors the server gets %d, want at most %d", flood, n, most)
			}
		}

		s.stopOn(s.second)
		s.config.policy = "lb_policy round_robin b"
		s.startOn(s.second)
		for _, f := range families {
			reached := s.capture(s.far, tunnel)
			before := s.second.status(s.scene).Bridges["lan"].Drops["no_flow"]
			f.send(f.tooBig(f.datagram(5002)))
			s.waitFor("the error is counted", func() bool { return s.second.status(s.scene).Bridges["lan"].Drops["no_flow"] > before })
			if n := f.errorsIn(reached.Frames()); n != 0 {
				t.Errorf("where the segment is not certain, the server gets %d errors", n)
			}
		}
	})
}

// strangers are a client and a server of one family, whose flows the machine does not know.
type strangers struct {
	s                      *twoMachines
	wire                   *packet.Conn // of the router
	router, machine        net.HardwareAddr
	client, pseudo, server netip.Addr
	last                   *layers.TCP // the server's next packet, as the client would get it
}

// newStrangers are those of both families.
func newStrangers(s *twoMachines) (families []strangers) {
	s.t.Helper()
	wire, router, err := rawSocket(s.Router, paper.RouterWANDevice)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { wire.Close() })
	machine, err := net.ParseMAC(s.macOf(s.second.host, s.second.nic))
	if err != nil {
		s.t.Fatal(err)
	}
	return []strangers{
		{s, wire, router, machine, paper.PC1Addr, paper.PseudoAddr, netip.MustParseAddr(farAddr), nil},
		{s, wire, router, machine, paper.PC1Addr6, paper.PseudoAddr6, netip.MustParseAddr(farAddr6), nil},
	}
}

// headers are those of a frame from the router to the second machine.
func (f strangers) headers(src, dst netip.Addr, protocol layers.IPProtocol) []gopacket.SerializableLayer {
	eth := &layers.Ethernet{SrcMAC: f.router, DstMAC: f.machine, EthernetType: layers.EthernetTypeIPv4}
	if src.Is6() {
		if protocol == layers.IPProtocolICMPv4 {
			protocol = layers.IPProtocolICMPv6
		}
		eth.EthernetType = layers.EthernetTypeIPv6
		return []gopacket.SerializableLayer{eth, &layers.IPv6{Version: 6, NextHeader: protocol, HopLimit: 64, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}}
	}
	return []gopacket.SerializableLayer{eth, &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), Flags: layers.IPv4DontFragment}}
}

// about builds a packet from the pseudo address to the client, without its frame.
func (f strangers) about(protocol layers.IPProtocol, transport interface {
	gopacket.SerializableLayer
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}) []byte {
	h := f.headers(f.pseudo, f.client, protocol)
	if err := transport.SetNetworkLayerForChecksum(h[1].(gopacket.NetworkLayer)); err != nil {
		f.s.t.Fatal(err)
	}
	return serialize(h[1], transport)
}

func (f strangers) datagram(port layers.UDPPort) []byte {
	return f.about(layers.IPProtocolUDP, &layers.UDP{SrcPort: port, DstPort: 7000})
}

func (f strangers) segment() []byte { return f.about(layers.IPProtocolTCP, f.last) }

// tooBig is a router's answer to a packet: it should have 1300 bytes at most.
func (f strangers) tooBig(about []byte) []byte {
	router := paper.RouterAddr
	if f.client.Is6() {
		router = paper.RouterAddr6
	}
	return f.message(router, layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded, layers.ICMPv6TypePacketTooBig, 0, 1300, about)
}

// portUnreachable is the client's answer to a packet to a closed port.
func (f strangers) portUnreachable(about []byte) []byte {
	return f.message(f.client, layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort, layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable, 0, about)
}

func (f strangers) message(from netip.Addr, kind, code, kind6, code6 uint8, mtu uint32, about []byte) []byte {
	h := f.headers(from, f.pseudo, layers.IPProtocolICMPv4)
	if from.Is4() {
		icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Seq: uint16(mtu)}
		return serialize(append(h, icmp, gopacket.Payload(about))...)
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind6, code6)}
	if err := icmp.SetNetworkLayerForChecksum(h[1].(gopacket.NetworkLayer)); err != nil {
		f.s.t.Fatal(err)
	}
	return serialize(append(h, icmp, gopacket.Payload(append(binary.BigEndian.AppendUint32(nil, mtu), about...)))...)
}

// send sends a frame from the router.
func (f strangers) send(frame []byte) {
	f.s.t.Helper()
	f.s.sendFrames(f.wire, frame)
}

// connectedServer is a socket of the server's that talks with a port of the client.
func (f strangers) connectedServer(port uint16) (conn *net.UDPConn) {
	f.s.t.Helper()
	err := f.s.far.Do(func() (err error) {
		conn, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.server, port)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.client, 7000)))
		return err
	})
	if err != nil {
		f.s.t.Fatal(err)
	}
	f.s.t.Cleanup(func() { conn.Close() })
	return conn
}

// followServer finds the number of the next byte that the server sends.
func (f *strangers) followServer(frames []netlab.Frame, err error) {
	f.s.t.Helper()
	if err != nil {
		f.s.t.Fatal(err)
	}
	for _, frame := range frames {
		p := gopacket.NewPacket(frame.Data, layers.LayerTypeEthernet, gopacket.Default)
		tcp, ok := p.TransportLayer().(*layers.TCP)
		if !ok || !frame.Outgoing || tcp.SrcPort != 9000 || p.NetworkLayer().NetworkFlow().Src().String() != f.pseudo.String() {
			continue
		}
		next := tcp.Seq + uint32(len(tcp.Payload))
		if tcp.SYN {
			next++
		}
		f.last = &layers.TCP{SrcPort: tcp.SrcPort, DstPort: tcp.DstPort, Seq: next, Ack: tcp.Ack, ACK: true, Window: tcp.Window}
	}
	if f.last == nil {
		f.s.t.Fatalf("the server has sent nothing to %s", f.client)
	}
}

// errorsIn counts the ICMP errors of the family that a capture has got.
func (f strangers) errorsIn(frames []netlab.Frame, err error) (n int) {
	f.s.t.Helper()
	if err != nil {
		f.s.t.Fatal(err)
	}
	for _, frame := range frames {
		p := gopacket.NewPacket(frame.Data, layers.LayerTypeEthernet, gopacket.Default)
		icmp, v4 := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		icmp6, v6 := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		if !frame.Outgoing && (v4 && icmp.TypeCode.Type() == layers.ICMPv4TypeDestinationUnreachable || v6 && icmp6.TypeCode.Type() == layers.ICMPv6TypePacketTooBig) {
			n++
		}
	}
	return n
}
