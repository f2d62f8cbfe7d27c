package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A1: ARP for the pseudo address is answered once, with the NIC's MAC, and ARP for the
// segments' addresses never. Whatever the server's kernel is set to, it neither answers, nor
// redirects, nor forwards.
func TestHostKernelKeepsOut(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		for name, prepare := range map[string]func(*scene){
			"bare NIC": func(*scene) {},
			"NIC with an address, a router that proxies ARP": func(s *scene) {
				s.ip(s.Server, "address add 192.168.1.3/24 dev nic0")
				s.ip(s.Server, "route add default via 192.168.1.1")
				s.makeRouter()
			},
		} {
			t.Run(name, func(t *testing.T) {
				s := newScene(t, paper.NetworkOptions{NAT: true, Neighbours: 1})
				prepare(s)
				s.start(caddyfile{datapath: datapath})
				nic := s.capture(s.Server, "nic0")
				s.wantAnswers(s.Neighbours[0], "eth0", map[string]int{
					"192.168.1.2": 1, "192.168.50.1": 0, "192.168.50.2": 0, "192.168.60.1": 0,
				})
				if got := s.get("http://192.168.1.2/"); got != "a" {
					t.Errorf("PC1 got %q", got)
				}
				ping, err := s.PC1.Ping(t.Context(), paper.PseudoAddr, netlab.PingOptions{Count: 3, Interval: time.Millisecond})
				if err != nil || ping.Lost() > 0 || ping.Duplicates > 0 {
					t.Errorf("ping: %+v (%v)", ping, err)
				}
				s.wantBridgeOnly(s.frames(nic))
			})
		}
	})
}

// makeRouter sets the server's kernel to forward, and to answer ARP for what it
// can reach.
func (s *scene) makeRouter() {
	s.t.Helper()
	for _, name := range []string{"ip_forward", "conf/all/proxy_arp", "conf/nic0/proxy_arp"} {
		if err := s.Server.Sysctl("net/ipv4/"+name, "1"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// wantAnswers asks for addresses by ARP, as a host does and as a probe, and
// counts the answers, which are to be the NIC's.
func (s *scene) wantAnswers(h *netlab.Host, device string, want map[string]int) {
	s.t.Helper()
	conn, mac, err := rawSocket(h, device)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	for _, sender := range []string{"192.168.1.11", "0.0.0.0"} {
		for address := range want {
			s.sendFrames(conn, arpRequest(mac, netip.MustParseAddr(sender), netip.MustParseAddr(address)))
		}
		got := map[string]int{}
		for reply := range arpReplies(conn, mac, time.Second) {
			got[netip.AddrFrom4([4]byte(reply.SourceProtAddress)).String()]++
			if !bytes.Equal(reply.SourceHwAddress, paper.NICMAC) {
				s.t.Errorf("%v is said to be at %x", reply.SourceProtAddress, reply.SourceHwAddress)
			}
		}
		for address, times := range want {
			if got[address] != times {
				s.t.Errorf("%s was answered for %d times when %s asked, want %d", address, got[address], sender, times)
			}
		}
	}
}

func arpRequest(mac []byte, sender, target netip.Addr) []byte {
	return serialize(
		&layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: sender.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
		})
}

// arpReplies yields the ARP replies that come within a time, but not the host's own, which
// its socket sees, too.
func arpReplies(conn *packet.Conn, own net.HardwareAddr, within time.Duration) func(yield func(*layers.ARP) bool) {
	return func(yield func(*layers.ARP) bool) {
		conn.SetReadDeadline(time.Now().Add(within))
		buffer := make([]byte, 1<<16)
		for {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				return // the deadline: nothing else ends a read here
			}
			arp, ok := gopacket.NewPacket(buffer[:n], layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
			if ok && arp.Operation == layers.ARPReply && !bytes.Equal(arp.SourceHwAddress, own) && !yield(arp) {
				return
			}
		}
	}
}

// wantBridgeOnly checks what left by the NIC: nothing but what the bridge sends
// in the name of the pseudo address, and no ICMP but echo replies.
func (s *scene) wantBridgeOnly(frames []netlab.Frame) {
	s.t.Helper()
	sent := 0
	for _, f := range frames {
		if !f.Outgoing {
			continue
		}
		sent++
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
		arp, isARP := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		ip, isIP := p.NetworkLayer().(*layers.IPv4)
		icmp, isICMP := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		switch {
		case !bytes.Equal(f.Data[6:12], paper.NICMAC),
			!isARP && !isIP,
			isARP && !bytes.Equal(arp.SourceProtAddress, paper.PseudoAddr.AsSlice()),
			isIP && !ip.SrcIP.Equal(paper.PseudoAddr.AsSlice()),
			isICMP && icmp.TypeCode.Type() != layers.ICMPv4TypeEchoReply:
			s.t.Errorf("the server sent %s", p)
		}
	}
	if sent == 0 {
		s.t.Error("nothing was captured")
	}
}

// Row S4: nobody reaches a segment, or a daemon that listens on all addresses, by another
// interface of the server or by the NIC past the pseudo address.
func TestNoWayRound(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true, Neighbours: 1})
		other := s.secondNIC()
		s.makeRouter()
		s.start(caddyfile{datapath: datapath})
		s.listen(s.Server, "0.0.0.0:7777", say("a daemon"))
		if got, err := hear(other, "10.0.0.1:7777", time.Second); err != nil || got != "a daemon" {
			t.Fatalf("by the second NIC the daemon says %q (%v)", got, err)
		}
		neighbour := s.Neighbours[0]
		for _, route := range []string{"192.168.50.0/24", "192.168.60.0/24"} {
			s.ip(other, "route add "+route+" via 10.0.0.1")
			s.ip(neighbour, "route add "+route+" via 192.168.1.2")
		}
		s.ip(other, "route add 192.168.1.2 via 10.0.0.1")

		for _, h := range []*netlab.Host{other, neighbour} {
			for _, address := range []string{"192.168.50.1:80", "192.168.50.1:7777", "192.168.60.1:80"} {
				s.wantSilence(h, address)
			}
		}
		for _, port := range []int{80, 7777} {
			s.wantSilence(other, fmt.Sprintf("192.168.1.2:%d", port))
		}
		s.wantRefused("192.168.1.2:7777")
		s.wantAnswers(other, "eth0", map[string]int{"192.168.1.2": 0, "192.168.50.1": 0, "192.168.50.2": 0, "192.168.60.1": 0})
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 got %q", got)
		}
	})
}

// secondNIC gives the server another NIC, 10.0.0.1, with one host behind it.
func (s *scene) secondNIC() *netlab.Host {
	s.t.Helper()
	other, err := s.NewHost("other")
	if err != nil {
		s.t.Fatal(err)
	}
	err = s.Link(
		netlab.End{Host: s.Server, Device: "nic1", Address: netip.MustParsePrefix("10.0.0.1/24")},
		netlab.End{Host: other, Device: "eth0", Address: netip.MustParsePrefix("10.0.0.2/24")})
	if err != nil {
		s.t.Fatal(err)
	}
	return other
}

// wantSilence checks that a host gets no answer, by TCP or by ping.
func (s *scene) wantSilence(h *netlab.Host, address string) {
	s.t.Helper()
	said, err := hear(h, address, 300*time.Millisecond)
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		s.t.Errorf("%s: %s says %q (%v), want silence", h.Namespace(), address, said, err)
	}
	ip := netip.MustParseAddrPort(address).Addr()
	ping, err := h.Ping(s.t.Context(), ip, netlab.PingOptions{Timeout: 100 * time.Millisecond})
	if err != nil || len(ping.Replies) > 0 {
		s.t.Errorf("%s: ping %s: %+v (%v), want silence", h.Namespace(), ip, ping, err)
	}
}
