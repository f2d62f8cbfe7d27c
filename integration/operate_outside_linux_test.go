package integration_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F10: `caddy vnic …` operates one segment while the other goes on, seen from PC1. What
// the segment serves, it serves to the end. New clients get the other segment or, if a steer
// rule gives them this one, a quick refusal. A reload in between changes nothing of that.
func TestOperatedFromOutside(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		config := caddyfile{datapath: datapath, policy: "steer b port tcp/81\nlb_policy first a b", sites: fmt.Sprintf(`
http:// {
	bind vnic/a
	root * %s
	file_server
}
http:// http://:81 {
	bind vnic/b
	respond "b"
}
`, s.dir)}
		data := make([]byte, 8*mib)
		rand.NewChaCha8([32]byte{4}).Read(data)
		s.write("data", string(data))
		s.write("index.html", "a")
		s.start(config)

		for _, away := range []string{"drain", "stop"} {
			download := s.slowDownload("http://192.168.1.2/data", len(data))
			s.operate(away, "a")
			s.wantPages(away+" a", "b", "b")
			s.load(config)
			s.wantPages(away+" a, reloaded", "b", "b")
			download.step()
			s.operate("activate", "a")
			s.wantPages("activate a", "a", "b")
			if got := download.rest(); sha256.Sum256(got) != sha256.Sum256(data) {
				t.Errorf("%s: the download has %d bytes, not the file's %d, or others", away, len(got), len(data))
			}
		}
		s.operate("stop", "b")
		began := time.Now()
		if _, err := fetch(s.PC1.HTTPClient(), "http://192.168.1.2:81/"); !errors.Is(err, syscall.ECONNREFUSED) || time.Since(began) > time.Second {
			t.Errorf("a client of the stopped segment: %v after %v, want a refusal at once", err, time.Since(began))
		}
		s.operate("start", "b")
		s.wantPages("start b", "a", "b")
	})
}

// operate runs a command of `caddy vnic` on a segment.
func (s *scene) operate(command, segment string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.run(s.Server, "env", asCaddy, self, "vnic", command, segment)
}

// wantPages checks which segments serve port 80, by policy, and port 81, which is
// steered to b.
func (s *scene) wantPages(when, onPort80, onPort81 string) {
	s.t.Helper()
	for url, want := range map[string]string{"http://192.168.1.2/": onPort80, "http://192.168.1.2:81/": onPort81} {
		if got := s.get(url); got != want {
			s.t.Errorf("%s: %s is %q, want %q", when, url, got, want)
		}
	}
}
