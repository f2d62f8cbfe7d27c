package integration_test

import (
	"io"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows A6 and F12: with `egress any` a segment reaches what its gateway reaches,
// by its own rule and table, whatever the reverse path filter is set to, and is
// seen as the pseudo address. The other segment reaches its gateway alone.
func TestEgressAnyReachesBeyondTheGateway(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.start(caddyfile{datapath: datapath, a: "egress any", policy: "lb_policy first a b"})
		s.listen(s.PC1, ":22", sayPeer)
		s.listen(s.Router, ":22", sayPeer)
		s.listen(s.Neighbours[0], ":22", sayPeer)
		s.wantRule(true)
		for _, filter := range []string{"0", "1", "2"} {
			for _, device := range []string{"all", "default", "vnic-A"} {
				if err := s.Server.Sysctl("net/ipv4/conf/"+device+"/rp_filter", filter); err != nil {
					t.Fatal(err)
				}
			}
			for _, address := range []string{"192.168.10.2:22", "192.168.1.11:22", "192.168.50.2:22"} {
				if got, err := s.hearFrom("192.168.50.1:0", address); err != nil || got != "192.168.1.2" {
					t.Errorf("rp_filter %s: %s is called by %q (%v), want the pseudo address", filter, address, got, err)
				}
			}
		}
		if got, err := s.curl("192.168.60.1", "http://192.168.10.2:22/"); err == nil {
			t.Errorf("with egress gateway the segment reaches PC1, which says %q", got)
		}
	})
}

// hearFrom is hear from an address of the server.
func (s *scene) hearFrom(local, address string) (string, error) {
	conn, err := s.dialFrom(s.Server, local, networkOf("tcp", address), address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	said, err := io.ReadAll(conn)
	return string(said), err
}
