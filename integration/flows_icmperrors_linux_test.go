package integration_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F6: what hosts and routers say about a flow comes to the socket that it is
// about: a closed port on either side, and a packet whose time to live ends on
// the way, for answers of the segment and for what it sends by itself.
func TestICMPErrors(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "ports any\negress any"})

		if err := s.ask("192.168.1.2:5999"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port of the segment: %v, want refused", err)
		}

		server := s.packetConn(s.Server, "192.168.50.1:5000").(*net.UDPConn)
		setOption(t, server, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		client := s.packetConn(s.PC1, "192.168.10.2:7000")
		send(t, client, "192.168.1.2:5000", "hello")
		_, alias := receive(t, server)
		setOption(t, server, unix.IPPROTO_IP, unix.IP_TTL, 1)
		send(t, server, alias, "too far")
		wantError(t, "an answer with a TTL of 1", server, syscall.EHOSTUNREACH)
		setOption(t, server, unix.IPPROTO_IP, unix.IP_TTL, 64)
		send(t, server, alias, "all the way")
		if got, _ := receive(t, client); got != "all the way" {
			t.Errorf("PC1 got %q", got)
		}
		client.Close()
		send(t, server, alias, "too late")
		wantError(t, "an answer to a closed port of PC1", server, syscall.ECONNREFUSED)

		// As traceroute does: who is the first hop, and is the second the end?
		for ttl, want := range map[int]error{1: syscall.EHOSTUNREACH, 2: syscall.ECONNREFUSED} {
			probe := s.packetConn(s.Server, "192.168.50.1:0").(*net.UDPConn)
			setOption(t, probe, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
			setOption(t, probe, unix.IPPROTO_IP, unix.IP_TTL, ttl)
			send(t, probe, "192.168.10.2:33434", "probe")
			wantError(t, "a probe of the segment", probe, want)
		}
	})
}

// setOption sets an option of a socket, of unix.IPPROTO_IP or unix.IPPROTO_IPV6.
func setOption(t *testing.T, conn *net.UDPConn, level, option, value int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, value) })
	if err := errors.Join(err, set); err != nil {
		t.Fatal(err)
	}
}

// wantError reads the error that an ICMP message has left at a socket.
func wantError(t *testing.T, what string, conn net.PacketConn, want error) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.ReadFrom(make([]byte, 100)); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// Row F8: behind the router the way is narrower than the server's link. TCP and
// UDP of the segment learn it from the router's messages.
func TestPathMTU(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.ip(s.Router, "link set lan mtu 1400")
		s.start(caddyfile{datapath: datapath, a: "ports any"})
		s.serveFiles("192.168.50.1:40000")
		s.wantDownload(4 * mib)

		server := s.packetConn(s.Server, "192.168.50.1:5000").(*net.UDPConn)
		setOption(t, server, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		client := s.packetConn(s.PC1, "192.168.10.2:7000")
		send(t, client, "192.168.1.2:5000", "hello")
		_, alias := receive(t, server)
		to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(alias))
		large := strings.Repeat("x", 1472) // as much as a frame takes
		s.waitFor("the socket learns that it is too much", func() bool {
			_, err := server.WriteTo([]byte(large), to)
			return errors.Is(err, syscall.EMSGSIZE)
		})
		send(t, server, alias, large[:1372])
		buffer := make([]byte, 2000)
		if err := client.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := client.ReadFrom(buffer); n != 1372 || err != nil {
			t.Errorf("PC1 got %d bytes (%v), want 1372", n, err)
		}
		ip, _, _ := net.SplitHostPort(alias)
		if route := s.ip(s.Server, "route get "+ip+" from 192.168.50.1"); !strings.Contains(route, "mtu 1400") {
			t.Errorf("the server's kernel has not learned the path's MTU: %s", route)
		}
	})
}

// Row F8: a VNIC's MTU follows its NIC's, and what is open goes on.
func TestMTUFollows(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "ports any"})
		s.serveFiles("192.168.50.1:40000")
		for _, mtu := range []string{"1300", "1500"} {
			s.ip(s.Router, "link set wan mtu "+mtu)
			s.ip(s.Server, "link set nic0 mtu "+mtu)
			s.waitFor("vnic-A with an MTU of "+mtu, func() bool {
				return strings.Contains(s.ip(s.Server, "link show vnic-A"), "mtu "+mtu+" ")
			})
			s.wantLog(fmt.Sprintf(`"the NIC has another MTU: the VNICs that it serves follow","bridge":"lan","nic":"nic0","from":%d,"to":%s`, map[string]int{"1300": 1500, "1500": 1300}[mtu], mtu))
			s.wantDownload(2 * mib)
		}
		s.ip(s.Server, "link set vnic-A mtu 1300") // by somebody: that is told
		s.wantLog("changed from outside")
		if log := s.caddy.Log(everything); strings.Count(log, "changed from outside") != 1 {
			t.Errorf("the log takes what the NIC's MTU changed for somebody's work:\n%s", log)
		}
	})
}

// wantDownload downloads a random file from port 40000.
func (s *scene) wantDownload(size int) {
	s.t.Helper()
	s.wantDownloadFrom("192.168.1.2", size)
}

func (s *scene) wantDownloadFrom(host string, size int) {
	s.t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{7}).Read(data)
	s.write("file", string(data))
	if got := s.get("http://" + host + ":40000/file"); sha256.Sum256([]byte(got)) != sha256.Sum256(data) {
		s.t.Errorf("the download has %d bytes, not the file's %d, or others", len(got), size)
	}
}
