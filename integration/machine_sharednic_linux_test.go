package integration_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows A1 and L5: on a NIC that keeps the host's own address, that address serves
// as before, whatever becomes of the bridge: an administrator's session that was
// open before the start lives through start, reload, stop and kill.
func TestSharedNIC(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.ip(s.Server, "address add 192.168.1.3/24 dev nic0")
		s.ip(s.Server, "route add default via 192.168.1.1")
		s.listen(s.Server, "192.168.1.3:22", func(conn net.Conn) { io.Copy(conn, conn) })
		session := s.openSession("192.168.1.3:22")
		before := s.snapshot()
		delete(before, "ip neighbour") // those of the host's own address come and go
		config := caddyfile{datapath: datapath, a: "ports any"}

		s.start(config)
		session.want("start")
		for _, line := range difference(before, s.snapshot()) {
			if strings.Contains(line, "nic0") || strings.HasPrefix(line, "sysctl") && !strings.Contains(line, "vnic-") {
				t.Errorf("the start has changed what is not its own: %s", line)
			}
		}
		s.wantAnswers(s.Neighbours[0], "eth0", map[string]int{"192.168.1.2": 1, "192.168.1.3": 1})
		s.bothAtOnce()
		s.load(caddyfile{datapath: datapath, a: "ports any", policy: "lb_policy first b"})
		session.want("reload")
		if got := s.get("http://192.168.1.2/"); got != "b" {
			t.Errorf("after the reload PC1 got %q", got)
		}
		s.stop()
		session.want("stop")
		s.wantSame("after stop", before)
		s.start(config)
		s.kill()
		session.want("kill")
	})
}

// session is a connection on which lines are echoed.
type session struct {
	s     *scene
	conn  net.Conn
	lines *bufio.Reader
}

func (s *scene) openSession(address string) *session {
	s.t.Helper()
	conn, err := s.PC1.DialContext(s.t.Context(), networkOf("tcp", address), address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return &session{s, conn, bufio.NewReader(conn)}
}

// want checks that the session is alive.
func (c *session) want(after string) {
	c.s.t.Helper()
	if err := c.echo("after " + after + "\n"); err != nil {
		c.s.t.Errorf("after %s the session is dead: %v", after, err)
	}
}

func (c *session) echo(line string) error {
	if err := c.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, line); err != nil {
		return err
	}
	got, err := c.lines.ReadString('\n')
	if err == nil && got != line {
		err = fmt.Errorf("%q came back as %q", line, got)
	}
	return err
}

// bothAtOnce downloads a large file from the host's own address and one from the
// segment's at the same time, by the same NIC.
func (s *scene) bothAtOnce() {
	s.t.Helper()
	data := make([]byte, 16*mib)
	rand.NewChaCha8([32]byte{4}).Read(data)
	want := sha256.Sum256(data)
	s.write("file", string(data))
	s.serveFiles("192.168.50.1:40000")
	s.serveFiles("192.168.1.3:40000")
	var downloads errgroup.Group
	for _, address := range []string{"192.168.1.2", "192.168.1.3"} {
		downloads.Go(func() error {
			client := &http.Client{Transport: s.PC1.HTTPClient().Transport, Timeout: 30 * time.Second}
			body, err := fetch(client, "http://"+address+":40000/file")
			if err == nil && sha256.Sum256([]byte(body)) != want {
				err = fmt.Errorf("%d bytes from %s, not those of the file", len(body), address)
			}
			return err
		})
	}
	if err := downloads.Wait(); err != nil {
		s.t.Error(err)
	}
}
