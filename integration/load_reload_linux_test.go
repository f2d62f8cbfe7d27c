package integration_test

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows F1, F4 and F10: a download goes on over `caddy reload` and over POST /load
// that give new connections to the other segment.
func TestReloadKeepsConnections(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		onA := caddyfile{datapath: datapath, sites: fmt.Sprintf(`
http:// {
	bind vnic/a
	root * %s
	file_server
}
http:// {
	bind vnic/b
	respond "b"
}
`, s.dir)}
		onB := onA
		onB.policy = "lb_policy first b a"
		data := make([]byte, 8*mib)
		rand.NewChaCha8([32]byte{3}).Read(data)
		s.write("data", string(data))
		s.write("index.html", "a")

		s.start(onA)
		download := s.slowDownload("http://192.168.1.2/data", len(data))
		for _, change := range []struct {
			load func(caddyfile)
			to   caddyfile
			want string
		}{{s.reload, onB, "b"}, {s.load, onA, "a"}, {s.load, onB, "b"}, {s.reload, onA, "a"}} {
			change.load(change.to)
			if got := s.get("http://192.168.1.2/"); got != change.want {
				t.Errorf("a new connection got %q, want %q", got, change.want)
			}
			download.step()
		}
		if got := download.rest(); sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("the download has %d bytes, not the file's %d, or others", len(got), len(data))
		}
		s.identicalReload(onA)
		s.failingReload(onA)
	})
}

// identicalReload loads the configuration in force again, which makes no new
// devices.
func (s *scene) identicalReload(config caddyfile) {
	s.t.Helper()
	before := s.snapshot()
	for range 3 {
		s.load(config)
		s.reload(config)
	}
	s.wantSame("after identical reloads", before)
}

// failingReload loads configurations that cannot come into force. What is in
// force stays, and a connection with it.
func (s *scene) failingReload(config caddyfile) {
	s.t.Helper()
	download := s.slowDownload("http://192.168.1.2/data", 8*mib)
	before := s.snapshot()
	bad := config
	bad.nic = "nic9"
	bad.policy = "lb_policy first b a"
	s.write("Caddyfile", bad.String())
	if err := s.caddy.Reload(s.t.Context()); err == nil || !strings.Contains(err.Error(), "nic9") {
		s.t.Errorf("the reload says %v, want an error that names nic9", err)
	}
	if answer, err := s.post(bad); err != nil || !strings.Contains(answer, "nic9") {
		s.t.Errorf("POST /load says %q (%v), want an error that names nic9", answer, err)
	}
	s.wantSame("after failed reloads", before)
	if got := s.get("http://192.168.1.2/"); got != "a" {
		s.t.Errorf("after failed reloads PC1 got %q", got)
	}
	if got := len(download.rest()); got != 8*mib {
		s.t.Errorf("over failed reloads a download got %d bytes", got)
	}
}

// load has Caddy load a configuration by its API, by force, as systemd's
// ExecReload does.
func (s *scene) load(config caddyfile) {
	s.t.Helper()
	if answer, err := s.post(config); err != nil || answer != "" {
		s.t.Fatalf("POST /load: %q (%v)", answer, err)
	}
}

func (s *scene) post(config caddyfile) (string, error) { return s.postText(config.String()) }

// postText loads a Caddyfile.
func (s *scene) postText(config string) (string, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://localhost:2019/load", strings.NewReader(config))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "text/caddyfile")
	request.Header.Set("Cache-Control", "must-revalidate")
	client := *s.adminClient()
	client.Timeout = time.Minute // a reload takes its time on a busy machine
	resp, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusOK {
		answer = nil // warnings about the Caddyfile's format
	}
	return string(answer), err
}

// download is a response that is read little by little.
type download struct {
	s    *scene
	conn net.Conn
	body *bufio.Reader
	got  []byte
	size int
}

// slowDownload begins to download a file from PC1, with a receive buffer so small
// that the server has to wait.
func (s *scene) slowDownload(url string, size int) *download {
	s.t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := s.PC1.DialContext(s.t.Context(), "tcp4", net.JoinHostPort("192.168.1.2", cmp.Or(request.URL.Port(), "80")))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		s.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	request.Close = true
	if err := request.Write(conn); err != nil {
		s.t.Fatal(err)
	}
	body := bufio.NewReader(conn)
	resp, err := http.ReadResponse(body, request)
	if err != nil || resp.ContentLength != int64(size) {
		s.t.Fatalf("%s: %+v (%v)", url, resp, err)
	}
	d := &download{s: s, conn: conn, body: body, size: size}
	d.step()
	return d
}

// step reads a little.
func (d *download) step() {
	d.s.t.Helper()
	piece := make([]byte, mib)
	if _, err := io.ReadFull(d.body, piece); err != nil {
		d.s.t.Fatalf("the download ended after %d bytes: %v", len(d.got), err)
	}
	d.got = append(d.got, piece...)
}

// rest reads to the end.
func (d *download) rest() []byte {
	d.s.t.Helper()
	rest, err := io.ReadAll(d.body)
	if err != nil {
		d.s.t.Errorf("the download ended after %d bytes: %v", len(d.got)+len(rest), err)
	}
	return append(d.got, rest...)
}
