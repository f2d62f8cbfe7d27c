package integration_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row H10: the server of a segment is on another machine, behind a VXLAN. TCP, UDP and pings of all
// sizes reach it, under both ways to see clients, and it sees them as a server on this machine does.
func TestRemoteSegment(t *testing.T) {
	t.Parallel()
	for _, clientIP := range []string{"preserve", "translate"} {
		t.Run(clientIP, func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newRemoteScene(t, datapath, "client_ip "+clientIP)
				s.start(s.config)
				data := make([]byte, 2*mib)
				rand.NewChaCha8([32]byte{21}).Read(data)
				for _, family := range []string{"4", "6"} {
					s.wantRemoteServer(family, clientIP == "preserve", data)
					s.wantRemotePings(family)
				}
				if dropped := s.status().Segments["b"].Drops["bad_source"]; dropped != 0 {
					t.Errorf("%d frames of the server's were dropped", dropped)
				}
			})
		})
	}
}

// wantRemoteServer checks TCP in both directions, and UDP.
func (s *remoteScene) wantRemoteServer(family string, preserved bool, data []byte) {
	s.t.Helper()
	own := map[string]string{"4": farAddr, "6": "[" + farAddr6 + "]"}[family]
	s.serveHTTP(s.far, own+":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(w, r.Body); n == 0 && err == nil {
			fmt.Fprint(w, r.RemoteAddr)
		}
	}))
	client := s.PC1.HTTPClient()
	url := "http://" + pseudoOf(family) + "/"
	seen, err := fetch(client, url)
	if err != nil {
		s.t.Fatalf("IPv%s: %v", family, err)
	}
	address := netip.MustParseAddrPort(seen).Addr()
	if is := address == paper.PC1Addr || address == paper.PC1Addr6; is != preserved {
		s.t.Errorf("IPv%s: the server sees PC1 as %s", family, address)
	}
	resp, err := client.Post(url, "application/octet-stream", strings.NewReader(string(data)))
	if err != nil {
		s.t.Fatalf("IPv%s: %v", family, err)
	}
	defer resp.Body.Close()
	if back, err := io.ReadAll(resp.Body); err != nil || string(back) != string(data) {
		s.t.Errorf("IPv%s: of %d bytes came back %d (%v)", family, len(data), len(back), err)
	}
	s.echoUDP(s.far, own+":5000")
	from := map[string]string{"4": paper.PC1Addr.String(), "6": "[" + paper.PC1Addr6.String() + "]"}[family]
	socket := s.packetConn(s.PC1, from+":0")
	s.waitFor("datagrams of all sizes come back", func() bool { return s.echoes(socket, pseudoOf(family)+":5000") })
}

// echoes tells whether datagrams of sizes around the MTU come back, and of one that is in fragments
// anyway. The first one that is too big is lost, because its sender learns the MTU by it.
func (s *remoteScene) echoes(socket net.PacketConn, to string) bool {
	for _, size := range []int{1, 1400, 1402, 1422, 1423, 1452, 1472, 5000} {
		sent := strings.Repeat("x", size)
		send(s.t, socket, to, sent)
		if got := s.receiveLarge(socket); got != sent {
			return false
		}
	}
	return true
}

// wantRemotePings sends pings of sizes around the MTU of 1450: those that fit are answered, and of
// one that does not the sender is told.
func (s *remoteScene) wantRemotePings(family string) {
	s.t.Helper()
	headers := map[string]int{"4": 28, "6": 48}[family]
	for _, size := range []int{56, 1449 - headers, 1450 - headers} {
		if _, err := s.ping(s.PC1, family, size); err != nil {
			s.t.Errorf("IPv%s: a ping of %d bytes: %v", family, size, err)
		}
	}
	s.ip(s.PC1, "-"+family+" route flush cache")
	for range 2 {
		output, err := s.ping(s.PC1, family, 1451-headers)
		if err == nil {
			s.t.Errorf("IPv%s: a ping that is larger than the MTU is answered", family)
		}
		if strings.Contains(output, "mtu=1450") || strings.Contains(output, "mtu 1450") || strings.Contains(output, "mtu = 1450") {
			return
		}
	}
	s.t.Errorf("IPv%s: the sender of a large ping is not told the MTU", family)
}

// ping sends one ping that must not be fragmented.
func (s *remoteScene) ping(h *netlab.Host, family string, size int) (string, error) {
	output, err := h.Run(s.t.Context(), "ping", "-"+family, "-c1", "-W5", "-Mdo", fmt.Sprint("-s", size), strings.Trim(pseudoOf(family), "[]"))
	if err != nil {
		output = append(output, err.Error()...)
	}
	return string(output), err
}

// receiveLarge returns the next datagram, or nothing if none comes.
func (s *remoteScene) receiveLarge(socket net.PacketConn) string {
	s.t.Helper()
	if err := socket.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		s.t.Fatal(err)
	}
	buffer := make([]byte, 1<<16)
	n, _, err := socket.ReadFrom(buffer)
	if err != nil {
		return ""
	}
	return string(buffer[:n])
}
