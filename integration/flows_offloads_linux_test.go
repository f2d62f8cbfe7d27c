package integration_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F8: offloads that administrators switch on at the NIC harm nothing: GRO as a list of
// packets, of datagrams that are to be forwarded, and of packets beyond 64 KiB (BIG TCP).
// TCP crosses in both directions, and so do datagrams that a client sends as one.
func TestSwitchedOnOffloads(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		for name, features := range map[string]string{
			"GRO":                              "gro on",
			"GRO as lists":                     "gro on rx-gro-list on",
			"GRO of datagrams to be forwarded": "gro on rx-udp-gro-forwarding on",
			"both":                             "gro on rx-gro-list on rx-udp-gro-forwarding on",
			"BIG TCP":                          "gro on",
		} {
			t.Run(name, func(t *testing.T) {
				s := &bulkScene{newScene(t, paper.NetworkOptions{}), rand.NewChaCha8([32]byte{1})}
				s.run(s.Server, "ethtool", append([]string{"-K", "nic0"}, strings.Fields(features)...)...)
				if name == "BIG TCP" {
					for _, h := range []*netlab.Host{s.PC1, s.Router, s.Server} {
						s.bigTCP(h)
					}
				}
				s.start(caddyfile{datapath: datapath, a: "ports any"})
				s.serveFiles("192.168.50.1:40000")
				s.echoUDP(s.Server, "192.168.50.1:40000")
				vnic := s.capture(s.Server, "vnic-A")
				s.transfer(8 * mib)
				if name == "BIG TCP" {
					s.wantBiggerThan64KiB(vnic)
				}
				vnic.Close()
				s.wantFewLeftToUserspace()
				s.oneSend()
				s.datagrams()
				s.bigPings()
			})
		}
	})
}

// Row F8: a segment in a namespace of its own can be set to send packets beyond 64 KiB, too.
func TestBigTCPOfASegment(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := &bulkScene{newScene(t, paper.NetworkOptions{}), rand.NewChaCha8([32]byte{1})}
		name := s.ownNamespace("a")
		s.start(caddyfile{datapath: datapath, a: "ports any\nnetns " + name})
		inside := s.enter(name)
		for _, h := range []*netlab.Host{s.PC1, s.Router, s.Server, inside} {
			s.bigTCP(h)
		}
		s.serveFilesOn(inside, "192.168.50.1:40000")
		nic := s.capture(s.Server, "nic0")
		s.transfer(8 * mib)
		s.wantBiggerThan64KiB(nic)
		nic.Close()
		s.wantFewLeftToUserspace()
	})
}

// wantBiggerThan64KiB checks that packets well beyond 64 KiB have crossed whole. How long the
// packets of a transfer become depends on how the kernel schedules both ends, so on a busy
// machine it takes more than one.
func (s *bulkScene) wantBiggerThan64KiB(c *netlab.Capture) {
	s.t.Helper()
	longest := 0
	for transfers := 1; ; transfers++ {
		for _, f := range s.frames(c) {
			longest = max(longest, len(f.Data))
		}
		switch {
		case longest >= 96<<10:
			return
		case transfers == 5:
			s.t.Fatalf("the longest frame has %d bytes, want one of 96 KiB and more", longest)
		}
		s.transfer(8 * mib)
	}
}

// wantFewLeftToUserspace checks that the kernel data path, if that is in use, has carried
// nearly all by itself.
func (s *bulkScene) wantFewLeftToUserspace() {
	s.t.Helper()
	links, err := s.Server.Netlink().LinkList()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range links {
		if a := l.Attrs(); strings.HasPrefix(a.Name, "vnic-slow") && a.Statistics.TxBytes > mib {
			s.t.Errorf("%d bytes were left to userspace", a.Statistics.TxBytes)
		}
	}
}

// bigTCP lets a host's devices make and receive packets of 200,000 bytes.
func (s *bulkScene) bigTCP(h *netlab.Host) {
	s.t.Helper()
	links, err := h.Netlink().LinkList()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range links {
		if l.Type() != "veth" {
			continue
		}
		if err := h.Netlink().LinkSetGROIPv4MaxSize(l, 200000); err != nil {
			s.t.Fatal(err)
		}
		if err := h.Netlink().LinkSetGSOIPv4MaxSize(l, 200000); err != nil {
			s.t.Fatal(err)
		}
		s.run(h, "ethtool", "-K", l.Attrs().Name, "gro", "on")
	}
}

// oneSend sends many datagrams by one call, which the kernel cuts (UDP_SEGMENT), and
// wants each back.
func (s *bulkScene) oneSend() {
	s.t.Helper()
	const size, count = 1200, 20
	conn := s.packetConn(s.PC1, "192.168.10.2:0").(*net.UDPConn)
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
	if err != nil {
		s.t.Fatal(err)
	}
	for round := range 20 {
		var all []byte
		for i := range count {
			all = append(all, bytes.Repeat([]byte{byte(round), byte(i)}, size/2)...)
		}
		if _, err := conn.WriteTo(all, &net.UDPAddr{IP: net.IPv4(192, 168, 1, 2), Port: 40000}); err != nil {
			s.t.Fatal(err)
		}
		got := make(map[byte]bool)
		buffer := make([]byte, 1<<16)
		conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		for len(got) < count {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				s.t.Fatalf("round %d: %d of %d datagrams came back (%v)", round, len(got), count, err)
			}
			if n != size || !bytes.Equal(buffer[:n], bytes.Repeat([]byte{byte(round), buffer[1]}, size/2)) {
				s.t.Fatalf("a datagram of %d bytes came back, or another: %x", n, buffer[:8])
			}
			got[buffer[1]] = true
		}
	}
}
