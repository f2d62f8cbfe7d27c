package integration_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// twoBridges is a Caddyfile with a bridge for each NIC.
func twoBridges(datapath, policy1, policy2 string) string {
	return fmt.Sprintf(`{
	vnic {
		segment a {
			interface vnic-A
			address 192.168.50.1/24
			ports any
		}
		segment b {
			interface vnic-B
			address 192.168.60.1/24
			ports any
		}
		bridge lan1 {
			nic nic0
			address 192.168.1.2/24
			gateway 192.168.1.1
			%s
		}
		bridge lan2 {
			nic nic1
			address 192.168.2.2/24
			gateway 192.168.2.1
			%s
		}
		datapath %s
	}
}
%s`, policy1, policy2, datapath, pages)
}

// twoLANs is the network of the paper's Fig-19.
type twoLANs struct {
	*scene
	*paper.SecondLAN
}

func newTwoLANs(t *testing.T, nat bool) *twoLANs {
	t.Helper()
	s := &twoLANs{scene: newScene(t, paper.NetworkOptions{NAT: nat})}
	lan, err := s.AddLAN(nat)
	if err != nil {
		t.Fatal(err)
	}
	s.SecondLAN = lan
	return s
}

// Rows S3 and S4, and the paper's Fig-19: two networks, each with a NIC and a
// segment of its own. Neither the hosts of one nor the servers of its segment
// reach anything of the other, with honest packets, ARP or forged frames.
func TestTwoBridges(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newTwoLANs(t, false)
		if err := s.tryStart(twoBridges(datapath, "lb_policy first a", "lb_policy first b")); err != nil {
			t.Fatal(err)
		}
		for _, segment := range []string{"192.168.50.1", "192.168.60.1"} {
			s.echoUDP(s.Server, segment+":5000")
		}
		lan1 := side{s.PC1, s.Router, paper.NICMAC, "192.168.1.2", "192.168.50", "a", "vnic-A", paper.NICDevice}
		lan2 := side{s.PC2, s.Router2, paper.NIC2MAC, "192.168.2.2", "192.168.60", "b", "vnic-B", paper.NIC2Device}
		s.wantServed(lan1)
		s.wantServed(lan2)
		s.wantApart(lan1, lan2)
		s.wantApart(lan2, lan1)
		s.wantServed(lan1)
		s.wantServed(lan2)
	})
}

// side is one of the two networks, with its segment.
type side struct {
	pc, router    *netlab.Host
	mac           net.HardwareAddr // of its NIC
	pseudo, net24 string           // the pseudo address, and what the segment's addresses begin with
	page          string
	vnic, nic     string
}

// wantServed checks that the PC of a network gets the page, echoes and datagrams,
// and that the segment reaches its gateway.
func (s *twoLANs) wantServed(by side) {
	s.t.Helper()
	if got := s.getFrom(by.pc, "http://"+by.pseudo+"/"); got != by.page {
		s.t.Errorf("%s got %q, want %q", by.pc.Namespace(), got, by.page)
	}
	s.wantPing(by.pc, netip.MustParseAddr(by.pseudo))
	if err := s.askFrom(by.pc, by.pseudo+":5000"); err != nil {
		s.t.Errorf("%s: UDP: %v", by.pc.Namespace(), err)
	}
	s.wantPing(s.Server, netip.MustParseAddr(by.net24+".2"))
}

// wantApart tries all ways from one network and its segment to the other. Nothing
// may appear on the other's NIC or come out of its VNIC.
func (s *twoLANs) wantApart(from, to side) {
	s.t.Helper()
	s.routeTo(from, to)
	watch := s.capture(s.Server, to.nic, to.vnic)
	var tries sync.WaitGroup // at once: each waits for an answer that must not come
	for _, address := range []string{to.pseudo, to.net24 + ".1", to.net24 + ".2"} {
		tries.Go(func() { s.wantSilence(from.pc, address+":80") })
		tries.Go(func() {
			if err := s.askFrom(from.pc, address+":5000"); err == nil {
				s.t.Errorf("%s: UDP to %s is answered", from.pc.Namespace(), address)
			}
		})
	}
	s.tryKeptIn(&tries, from, to)
	s.wantNoAnswers(from, to.pseudo, to.net24+".1", to.net24+".2")
	s.forge(from, to)
	tries.Wait()
	for _, f := range s.frames(watch) {
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
		ours := f.Interface == 0 && p.Layer(layers.LayerTypeARP) != nil // the bridge keeps its gateway resolved
		if !ours && !(f.Interface == 1 && f.Outgoing) {
			s.t.Errorf("from %s came to %s: %s", from.nic, []string{to.nic, to.vnic}[f.Interface], p)
		}
	}
	watch.Close()
}

// routeTo has the router of one network send what is for the other to the server.
func (s *twoLANs) routeTo(from, to side) {
	s.t.Helper()
	for _, network := range []string{to.pseudo + "/32", to.net24 + ".0/24"} {
		s.ip(from.router, "route replace "+network+" via "+from.pseudo)
	}
}

// wantNoAnswers asks for addresses by ARP.
func (s *twoLANs) wantNoAnswers(from side, addresses ...string) {
	s.t.Helper()
	conn, mac, err := rawSocket(from.router, paper.RouterWANDevice)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	sender := netip.MustParseAddr(strings.TrimSuffix(from.pseudo, "2") + "1")
	for _, address := range addresses {
		s.sendFrames(conn, arpRequest(mac, sender, netip.MustParseAddr(address)))
	}
	for reply := range arpReplies(conn, mac, 300*time.Millisecond) {
		if address := net.IP(reply.SourceProtAddress).String(); address != from.pseudo {
			s.t.Errorf("%s is answered for on %s, by %x", address, from.nic, reply.SourceHwAddress)
		}
	}
}

// forge sends frames with the addresses of the other network to the NIC of this
// one: as their destination, as their source, and as both.
func (s *twoLANs) forge(from, to side) {
	s.t.Helper()
	conn, mac, err := rawSocket(from.router, paper.RouterWANDevice)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	gateway := strings.TrimSuffix(to.pseudo, "2") + "1"
	for _, eth := range []net.HardwareAddr{from.mac, layers.EthernetBroadcast} {
		for _, source := range []string{strings.TrimSuffix(from.pseudo, "2") + "1", gateway, to.pseudo, to.net24 + ".1", to.net24 + ".2"} {
			for _, destination := range []string{from.pseudo, to.pseudo, to.net24 + ".1", to.net24 + ".2", gateway} {
				ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
				tcp := &layers.TCP{SrcPort: 999, DstPort: 80, SYN: true, Window: 1000}
				tcp.SetNetworkLayerForChecksum(ip)
				s.sendFrames(conn, serialize(&layers.Ethernet{SrcMAC: mac, DstMAC: eth, EthernetType: layers.EthernetTypeIPv4}, ip, tcp))
			}
		}
	}
}

// tryKeptIn tries to reach the other network from the segment's address, and by
// its VNIC.
func (s *twoLANs) tryKeptIn(tries *sync.WaitGroup, from, to side) {
	s.t.Helper()
	gateway := strings.TrimSuffix(to.pseudo, "2") + "1"
	for _, address := range []string{to.pseudo, gateway, to.net24 + ".2", to.net24 + ".9", paper.PC1Addr.String(), paper.PC2Addr.String()} {
		for _, source := range []string{from.net24 + ".1", from.vnic} {
			tries.Go(func() {
				if got, err := s.curl(source, "http://"+address+"/"); err == nil {
					s.t.Errorf("from %s %s says %q", source, address, got)
				}
			})
			tries.Go(func() {
				if out, err := s.Server.Run(s.t.Context(), "ping", "-I", source, "-c", "1", "-W", "0.3", address); err == nil {
					s.t.Errorf("from %s a ping of %s is answered: %s", source, address, out)
				}
			})
		}
	}
}

// Rows A3, A5, F12 and S3: a segment that two bridges name serves both networks,
// and sees each gateway under an alias of its own. Clients with the same address
// and port in both are not confused.
func TestSegmentOfTwoBridges(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newTwoLANs(t, false)
		if err := s.tryStart(twoBridges(datapath, "lb_policy first b", "lb_policy first b")); err != nil {
			t.Fatal(err)
		}
		s.wantGateway("192.168.60.2", s.Router, paper.RouterMAC)
		s.wantGateway("192.168.60.3", s.Router2, paper.Router2MAC)

		// PC2 takes PC1's address in its own network.
		s.ip(s.PC2, "address add 192.168.10.2/32 dev eth0")
		s.ip(s.Router2, "route add 192.168.10.2 dev lan")
		s.echoPeers("192.168.60.1:5000")
		one := s.packetConn(s.PC1, "192.168.10.2:7000")
		two := s.packetConn(s.PC2, "192.168.10.2:7000")
		send(t, one, "192.168.1.2:5000", "one")
		send(t, two, "192.168.2.2:5000", "two")
		first, from1 := receive(t, one)
		second, from2 := receive(t, two)
		if !strings.HasPrefix(first, "one ") || from1 != "192.168.1.2:5000" {
			t.Errorf("PC1 is answered %q by %s", first, from1)
		}
		if !strings.HasPrefix(second, "two ") || from2 != "192.168.2.2:5000" {
			t.Errorf("PC2 is answered %q by %s", second, from2)
		}
		if first[4:] == second[4:] {
			t.Errorf("the segment sees both clients as %s", first[4:])
		}
		for _, client := range []struct {
			host *netlab.Host
			url  string
		}{{s.PC1, "http://192.168.1.2/"}, {s.PC2, "http://192.168.2.2/"}} {
			if got := s.getFrom(client.host, client.url); got != "b" {
				t.Errorf("%s says %q", client.url, got)
			}
		}
	})
}

// wantGateway checks that the segment reaches a router under an alias, which its
// VNIC resolves to the router's MAC.
func (s *twoLANs) wantGateway(alias string, router *netlab.Host, mac net.HardwareAddr) {
	s.t.Helper()
	name := router.Namespace()
	s.listen(router, ":90", say(name))
	if got, err := hear(s.Server, alias+":90", time.Second); err != nil || got != name {
		s.t.Errorf("behind %s is %q, want %s (%v)", alias, got, name, err)
	}
	known, err := s.Server.Neighbours("vnic-B")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range known {
		if n.IP.String() == alias && (n.HardwareAddr.String() != mac.String() || n.State != netlink.NUD_PERMANENT) {
			s.t.Errorf("vnic-B has %s at %s, state %#x, want %s for good", alias, n.HardwareAddr, n.State, mac)
		}
	}
}

// echoPeers sends every datagram back with the address that it came from.
func (s *scene) echoPeers(address string) {
	s.t.Helper()
	conn := s.packetConn(s.Server, address)
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue
			}
			conn.WriteTo(fmt.Appendf(nil, "%s %s", buffer[:n], from), from)
		}
	}()
}
