package integration_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row A2++: the NIC is a bridge that has the network's device as a member, or a macvlan on
// that device. Both carry as the device does, without the slow path, and a change of their
// MAC is announced.
func TestOtherNICs(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name string
		make []string // arguments of ip
	}{
		{"bridge", []string{"link add other type bridge", "link set nic0 master other", "link set other up"}},
		{"macvlan", []string{"link add other link nic0 type macvlan mode bridge", "link set other up"}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newScene(t, paper.NetworkOptions{NAT: true})
				for _, args := range kind.make {
					s.ip(s.Server, args)
				}
				config := caddyfile{datapath: datapath, nic: "other", a: "ports any"}
				if kind.name == "bridge" {
					s.refusesBridgeNetfilter(config)
				}
				s.start(config)
				s.wantService()
				s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
				slow := s.slowPackets()
				s.wantEchoed("192.168.1.2:9000", 4<<20)
				if more := s.slowPackets() - slow; more > 100 {
					t.Errorf("%d packets took the slow path", more)
				}

				wan := s.capture(s.Router, paper.RouterWANDevice)
				other := net.HardwareAddr{0xb0, 0xc7, 0x45, 0x00, 0x00, 0x01}
				s.ip(s.Server, "link set other address "+other.String())
				s.waitFor("an announcement of another MAC", func() bool {
					for _, f := range s.frames(wan) {
						if announces(f, other) {
							return true
						}
					}
					return false
				})
				s.wantService()
			})
		})
	}
}

// refusesBridgeNetfilter wants a start to fail because br_netfilter gives a bridge's
// packets to the host's packet filter, and does what the error says.
func (s *scene) refusesBridgeNetfilter(config caddyfile) {
	s.t.Helper()
	const calls = "net/bridge/bridge-nf-call-iptables"
	if err := s.Server.Sysctl(calls, "1"); err != nil {
		s.t.Fatalf("%v: is br_netfilter there? modprobe br_netfilter", err)
	}
	err := s.tryStart(config.String())
	if err == nil || !strings.Contains(err.Error(), "sysctl -w net.bridge.bridge-nf-call-iptables=0") {
		s.t.Fatalf("with br_netfilter the start says %v", err)
	}
	if err := s.Server.Sysctl(calls, "0"); err != nil {
		s.t.Fatal(err)
	}
}

// wantEchoed sends bytes to an echo server from PC1, which must come back.
func (s *scene) wantEchoed(address string, size int) {
	s.t.Helper()
	conn, err := s.PC1.DialContext(s.t.Context(), networkOf("tcp", address), address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, strings.NewReader(strings.Repeat("echoed  ", size/8)))
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if back, err := io.Copy(io.Discard, conn); err != nil || back != int64(size) {
		s.t.Errorf("%d bytes came back (%v), want %d", back, err, size)
	}
}
