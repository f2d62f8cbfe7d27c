package integration_test

import (
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// The Caddyfiles of docs/installing.md do what the page says, on a NIC that the
// host shares and on a bare one.
func TestInstallingGuide(t *testing.T) {
	t.Parallel()
	caddyfiles := caddyfilesOf(t, installingPage)
	if len(caddyfiles) != 2 {
		t.Fatalf("the page has %d Caddyfiles, want a shared NIC's and a bare one's", len(caddyfiles))
	}

	t.Run("shared", func(t *testing.T) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		s.nicIsEth1()
		s.ip(s.Server, "address add 192.168.1.3/24 dev eth1")
		s.ip(s.Server, "route add default via 192.168.1.1")
		s.listen(s.Server, "192.168.1.3:22", say("the host"))
		if err := s.tryStart(caddyfiles[0]); err != nil {
			t.Fatal(err)
		}
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("the pseudo address gave PC1 %q", got)
		}
		if got, err := hear(s.PC1, "192.168.1.3:22", 5*time.Second); got != "the host" {
			t.Errorf("the host's own address gave PC1 %q (%v)", got, err)
		}
	})
	t.Run("bare", func(t *testing.T) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		s.nicIsEth1()
		s.listen(s.Server, "0.0.0.0:22", say("the host"))
		s.listen(s.Router, "192.168.1.1:53", say("a name"))
		if err := s.tryStart(caddyfiles[1]); err != nil {
			t.Fatal(err)
		}
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 got %q", got)
		}
		if got, err := hear(s.PC1, "192.168.1.2:22", 5*time.Second); got != "the host" {
			t.Errorf("port 22 gave PC1 %q (%v)", got, err)
		}
		if got, err := hear(s.Server, "192.168.1.1:53", 5*time.Second); got != "a name" {
			t.Errorf("the host itself got %q (%v) from its gateway", got, err)
		}
	})
}
