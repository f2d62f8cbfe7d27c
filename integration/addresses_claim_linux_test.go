package integration_test

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A2: a neighbour that has the pseudo address fails the start, which names
// its MAC and leaves the neighbour its address and nothing of its own behind.
func TestPseudoAddressInUse(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		neighbour := s.Neighbours[0]
		s.ip(neighbour, "address add 192.168.1.2/24 dev eth0")
		link, err := neighbour.Netlink().LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		s.ip(neighbour, "route add default via 192.168.1.1")
		s.listen(neighbour, "192.168.1.2:80", say("the neighbour"))

		before := s.snapshot()
		config := caddyfile{datapath: datapath}.String()
		mac := link.Attrs().HardwareAddr.String()
		if err := s.tryStart(config); err == nil || !strings.Contains(err.Error(), mac) || !strings.Contains(err.Error(), "192.168.1.2") {
			t.Fatalf("the start says %v, want an error that names 192.168.1.2 and %s", err, mac)
		}
		look := strings.Replace(examples.SymptomOf(t, troubleshootingPage, "another host has the pseudo address").Look[0], "eth1", paper.NICDevice, 1)
		if seen, err := s.tryShell(look); err == nil || !strings.Contains(seen, strings.ToUpper(mac)) {
			t.Errorf("%s finds %v, want %s:\n%s", look, err, mac, seen)
		}
		s.wantSame("after the start has failed", before)
		if got, err := hear(s.PC1, "192.168.1.2:80", 3*time.Second); err != nil || got != "the neighbour" {
			t.Errorf("the neighbour says %q (%v)", got, err)
		}
		s.ip(neighbour, "address delete 192.168.1.2/24 dev eth0")
		if seen, err := s.tryShell(look); err != nil {
			t.Errorf("nobody has the address, and %s finds\n%s", look, seen)
		}
		if err := s.tryStart(config); err != nil {
			t.Fatal(err)
		}
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 got %q", got)
		}
	})
}

// Row A2+: a switch that tracks devices answers each probe with a unicast probe of its
// own, which does not fail the start; with `dad off` a router that answers for every
// address does not either.
func TestNoRivals(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		probes := s.answerProbes(func(mac net.HardwareAddr) []byte {
			f := arpRequest(mac, netip.IPv4Unspecified(), paper.PseudoAddr)
			copy(f, paper.NICMAC) // to the one host
			return f
		})
		if err := s.tryStart(caddyfile{datapath: datapath}.String()); err != nil {
			t.Fatal(err)
		}
		s.wantService()
		if probes() == 0 {
			t.Error("the switch heard no probe")
		}
		s.stop()
		heard := probes()
		s.answerProbes(func(mac net.HardwareAddr) []byte { // proxy ARP: for whatever address
			return arpRequest(mac, paper.PseudoAddr, netip.IPv4Unspecified())
		})
		if err := s.tryStart(caddyfile{datapath: datapath}.String()); err == nil || !strings.Contains(err.Error(), "dad off") {
			t.Errorf("the start says %v, want an error with the way out", err)
		}
		config := strings.Replace(caddyfile{datapath: datapath}.String(), "nic nic0", "nic nic0\n\t\t\tdad off", 1)
		if probes() == heard {
			t.Error("the router heard no probe")
		}
		heard = probes()
		if err := s.tryStart(config); err != nil {
			t.Fatal(err)
		}
		s.wantService()
		if n := probes(); n != heard {
			t.Errorf("%d probes with dad off", n-heard)
		}
	})
}

// answerProbes lets a neighbour answer each ARP probe for the pseudo address, until the
// test ends. It returns how many there were.
func (s *scene) answerProbes(answer func(mac net.HardwareAddr) []byte) (probes func() int64) {
	s.t.Helper()
	conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	var heard atomic.Int64
	go func() {
		buf := make([]byte, 2000)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			p := gopacket.NewPacket(buf[:n], layers.LayerTypeEthernet, gopacket.Default)
			arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
			if !ok || bytes.Equal(arp.SourceHwAddress, mac) || !bytes.Equal(arp.SourceProtAddress, netip.IPv4Unspecified().AsSlice()) || !bytes.Equal(arp.DstProtAddress, paper.PseudoAddr.AsSlice()) {
				continue
			}
			heard.Add(1)
			f := answer(mac)
			_, _ = conn.WriteTo(f, &packet.Addr{HardwareAddr: f[:6]})
		}
	}()
	return heard.Load
}

// Row A2: the pseudo address is announced at the start, when the NIC comes back
// up, and when its MAC changes. The router follows, and service goes on.
func TestAnnouncements(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		wan := s.capture(s.Router, paper.RouterWANDevice)
		announced := func(mac net.HardwareAddr, from int) (times int) {
			for _, f := range s.frames(wan)[from:] {
				if announces(f, mac) {
					times++
				}
			}
			return times
		}
		wait := func(when string, mac net.HardwareAddr, from int) {
			t.Helper()
			s.waitFor("an announcement from "+mac.String()+" "+when, func() bool { return announced(mac, from) > 0 })
			if got := s.get("http://192.168.1.2/"); got != "a" {
				t.Errorf("%s PC1 got %q", when, got)
			}
		}
		s.start(caddyfile{datapath: datapath})
		wait("at the start", paper.NICMAC, 0)

		s.ip(s.Server, "link set nic0 down")
		s.waitFor("the bridge sees the NIC down", func() bool { return !s.status().Bridges["lan"].Up })
		seen := len(s.frames(wan))
		s.ip(s.Server, "link set nic0 up")
		wait("when the NIC is up again", paper.NICMAC, seen)

		// Down and up between two looks of the bridge.
		s.waitFor("the bridge sees the NIC up", func() bool { return s.status().Bridges["lan"].Up })
		for times := -1; times != announced(paper.NICMAC, seen); {
			times = announced(paper.NICMAC, seen)
			time.Sleep(2500 * time.Millisecond) // longer than between two announcements: they are over
		}
		seen = len(s.frames(wan))
		s.run(s.Server, "sh", "-c", "ip link set nic0 down && ip link set nic0 up")
		wait("when the NIC was down for a moment", paper.NICMAC, seen)

		seen = len(s.frames(wan))
		other := net.HardwareAddr{0xb0, 0xc7, 0x45, 0x00, 0x00, 0x01}
		s.ip(s.Server, "link set nic0 address "+other.String())
		wait("when the NIC has another MAC", other, seen)
	})
}

// announces tells whether a frame is a gratuitous ARP for the pseudo address
// (RFC 5227 §2.3).
func announces(f netlab.Frame, mac net.HardwareAddr) bool {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.Default)
	arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	return ok && bytes.Equal(f.Data[:6], layers.EthernetBroadcast) && bytes.Equal(arp.SourceHwAddress, mac) &&
		bytes.Equal(arp.SourceProtAddress, paper.PseudoAddr.AsSlice()) && bytes.Equal(arp.DstProtAddress, paper.PseudoAddr.AsSlice())
}
