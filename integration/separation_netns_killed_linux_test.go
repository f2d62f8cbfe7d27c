package integration_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows L5 and S2: a segment with a namespace of its own is apart from the host while Caddy
// starts, runs and stops, and after Caddy was killed, when its veth pair stays. All the time
// root in the segment sends to all that the host has and forwards to.
func TestKilledNetnsSegmentIsApart(t *testing.T) {
	onEachAttachment(t, func(t *testing.T, datapath, kernel string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.onKernel(kernel)
		elsewhere := s.addNetwork()
		s.ip(s.Server, "address add 192.168.1.3/24 dev nic0")
		s.enableIPv6(s.Server, "nic0", "other")
		s.ip(s.Server, "-6 address add fd00:1::3/64 dev nic0 nodad")
		s.makeRouter()
		name := s.ownNamespace("a")
		config := caddyfile{datapath: datapath, a: "netns " + name + "\nports any"}

		host := s.witnessDatagrams(s.Server)
		forwarded := s.capture(elsewhere, "eth0")
		lan := s.capture(s.Neighbours[0], "eth0")
		intruder := s.intrude(s.enter(name))
		quiet := func(when string) {
			t.Helper()
			intruder.wantRounds(5)
			if n := host.Load(); n > 0 {
				t.Fatalf("%s %d datagrams of the segment came to the host", when, n)
			}
			for where, c := range map[string]*netlab.Capture{"the host's other network": forwarded, "the NIC's network": lan} {
				for _, f := range s.frames(c) {
					if bytes.Contains(f.Data, intruderMark) {
						t.Fatalf("%s a frame of the segment came to %s: %x", when, where, f.Data)
					}
				}
			}
		}
		for range 2 {
			s.start(config)
			quiet("while Caddy ran")
			s.makeRouter() // as Docker does, some time after Caddy's start
			quiet("with ip_forward set after the start")
			s.killNetns()
			quiet("after kill -9")
		}
		s.ip(s.Server, "link set vnic-A down")
		s.ip(s.Server, "link set vnic-A up")
		s.makeRouter()
		quiet("after kill -9, with the pair set down and up")
		s.start(config)
		quiet("after the next start")
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 got %q", got)
		}
		s.stop()
		quiet("after the stop")
		if links := s.ip(s.Server, "-o link"); strings.Contains(links, "vnic-") {
			t.Errorf("after the stop there are\n%s", links)
		}

		// Without what keeps them apart the same frames come through.
		s.start(config)
		s.killNetns()
		s.run(s.Server, "tc", "qdisc", "delete", "dev", "vnic-A", "clsact")
		if err := s.Server.Sysctl("net/ipv4/conf/vnic-A/rp_filter", "0"); err != nil {
			t.Fatal(err)
		}
		s.waitFor("a datagram of the segment at the host", func() bool { return host.Load() > 0 })
	})
}

// Row L3: if somebody takes away what keeps the outer end of a pair from the host, the bridge
// puts it back.
func TestOuterEndIsPutBack(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "netns " + s.ownNamespace("a")})
		before := s.outerEnd()
		for name, changes := range map[string][]string{
			"its filter": {"tc qdisc delete dev vnic-A clsact"},
			"its state":  {"ip link set vnic-A down"},
			"its name":   {"ip link set vnic-A name other0"}, // in one step, or it is put back in between
			"its settings": {
				"sysctl -q net.ipv4.conf.vnic-A.arp_ignore=0", "sysctl -q net.ipv4.conf.vnic-A.accept_local=1",
				"sysctl -q net.ipv4.conf.vnic-A.rp_filter=0", "sysctl -q net.ipv4.ip_forward=1",
			},
		} {
			from := len(s.caddy.Log(everything))
			for _, change := range changes {
				words := strings.Fields(change)
				s.run(s.Server, words[0], words[1:]...)
			}
			s.wantLogFrom(from, "a VNIC was changed from outside: put back")
			s.waitFor(name+" as it was", func() bool { return s.outerEnd() == before })
		}
		s.wantService()
	})
}

// outerEnd is what there is about the outer end of segment a's pair.
func (s *scene) outerEnd() string {
	s.t.Helper()
	if _, err := s.Server.Netlink().LinkByName("vnic-A"); err != nil {
		return "" // it has another name
	}
	return s.stdout(s.Server, "ip", "-o", "link", "show", "dev", "vnic-A") +
		s.stdout(s.Server, "tc", "filter", "show", "dev", "vnic-A", "ingress") +
		s.stdout(s.Server, "sysctl", "-a", "--pattern", `^net[.]ipv[46][.]conf[.]vnic-A[.]`)
}

// ownNamespace makes a namespace for a segment, which is the host's and stays when Caddy
// ends.
func (s *scene) ownNamespace(segment string) string {
	s.t.Helper()
	h, err := s.NewHost(segment + "-segment")
	if err != nil {
		s.t.Fatal(err)
	}
	return h.Namespace()
}

// killNetns ends Caddy by SIGKILL where a pair stays.
func (s *scene) killNetns() {
	s.t.Helper()
	pid := s.caddy.Process()
	if err := pid.Signal(9); err != nil {
		s.t.Fatal(err)
	}
	<-pid.Done()
	if links := s.ip(s.Server, "-o link show dev vnic-A"); !strings.Contains(links, "UP") {
		s.t.Fatalf("the pair is not there, or not up: %s", links)
	}
}

func (s *scene) enableIPv6(h *netlab.Host, devices ...string) {
	s.t.Helper()
	for _, device := range append(devices, "all", "default") {
		for name, value := range map[string]string{"disable_ipv6": "0", "forwarding": "1"} {
			if err := h.Sysctl("net/ipv6/conf/"+device+"/"+name, value); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

const intruderPort = 9999

var intruderMark = []byte("from within the segment")

// witnessDatagrams counts what services of a host on all addresses get from an intruder,
// over IPv4 and IPv6.
func (s *scene) witnessDatagrams(h *netlab.Host) *atomic.Int64 {
	s.t.Helper()
	seen := new(atomic.Int64)
	for _, network := range []string{"udp4", "udp6"} {
		var conn net.PacketConn
		err := h.Do(func() (err error) {
			conn, err = net.ListenUDP(network, &net.UDPAddr{Port: intruderPort})
			return err
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { conn.Close() })
		go func() {
			buffer := make([]byte, 1<<16)
			for {
				n, _, err := conn.ReadFrom(buffer)
				if err != nil {
					return
				}
				if bytes.Equal(buffer[:n], intruderMark) {
					seen.Add(1)
				}
			}
		}()
	}
	return seen
}

// intruder is root in segment a, who sends datagrams by its VNIC whenever there is one.
type intruder struct {
	s      *scene
	rounds atomic.Int64 // that were sent whole
}

func (s *scene) intrude(inside *netlab.Host) *intruder {
	i := &intruder{s: s}
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			i.round(inside)
			time.Sleep(2 * time.Millisecond)
		}
	})
	s.t.Cleanup(func() { cancel(); running.Wait() })
	return i
}

// round sends all there is to send. The device may come or go meanwhile.
func (i *intruder) round(inside *netlab.Host) {
	vnic, err := inside.Netlink().LinkByName("vnic-A")
	if err != nil {
		i.rounds.Add(1) // nothing to send by
		return
	}
	if inside.Netlink().LinkSetUp(vnic) != nil {
		return
	}
	outer, err := i.s.Server.Netlink().LinkByName("vnic-A") // any host on a link can learn it
	if err != nil {
		return
	}
	conn, mac, err := rawSocket(inside, "vnic-A")
	if err != nil {
		return
	}
	defer conn.Close()
	for _, f := range intrusions(mac, outer.Attrs().HardwareAddr) {
		if _, err := conn.WriteTo(f, &packet.Addr{HardwareAddr: f[:6]}); err != nil {
			return
		}
	}
	i.rounds.Add(1)
}

// wantRounds waits until all has been sent some more times.
func (i *intruder) wantRounds(n int64) {
	i.s.t.Helper()
	so := i.rounds.Load()
	i.s.waitFor("the intruder has sent", func() bool { return i.rounds.Load() >= so+n })
}

// intrusions are datagrams to the host, to all and through the host, as the segment and
// as others, to the outer end's MAC and to all, over IPv4 and IPv6.
func intrusions(mac, outer net.HardwareAddr) (frames [][]byte) {
	for _, dstMAC := range []net.HardwareAddr{outer, layers.EthernetBroadcast} {
		for _, dst := range []string{"192.168.1.3", "192.168.1.255", "255.255.255.255", "224.0.0.1", "10.9.9.1", "10.9.9.2", "192.168.1.11", "127.0.0.1"} {
			for _, src := range []string{"192.168.50.1", "192.168.1.11", "10.9.9.2", "203.0.113.9", "192.168.1.3", "0.0.0.0"} {
				udp := &layers.UDP{SrcPort: intruderPort, DstPort: intruderPort}
				udp.SetNetworkLayerForChecksum(&layers.IPv4{SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4(), Protocol: layers.IPProtocolUDP})
				frames = append(frames, ipFrame(mac, dstMAC, src, dst, layers.IPProtocolUDP, udp, gopacket.Payload(intruderMark)))
			}
		}
		for _, dst := range []string{"fd00:1::3", "ff02::1"} {
			frames = append(frames, ipv6Datagram(mac, dstMAC, "fe80::50:1", dst), ipv6Datagram(mac, dstMAC, "fd00:1::11", dst))
		}
		frames = append(frames, append(arpRequest(mac, netip.MustParseAddr("192.168.50.1"), netip.MustParseAddr("192.168.1.3")), intruderMark...))
	}
	return frames
}

func ipv6Datagram(srcMAC, dstMAC net.HardwareAddr, src, dst string) []byte {
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolUDP, HopLimit: 64, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	udp := &layers.UDP{SrcPort: intruderPort, DstPort: intruderPort}
	udp.SetNetworkLayerForChecksum(ip)
	return serialize(&layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeIPv6}, ip, udp, gopacket.Payload(intruderMark))
}
