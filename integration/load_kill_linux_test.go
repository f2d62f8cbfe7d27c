package integration_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row L5: Caddy is killed while clients send requests. The host's own connections go on at
// once, the NIC can soon have the pseudo address, and the next start serves the same clients.
func TestKilledUnderLoad(t *testing.T) {
	onEachAttachment(t, func(t *testing.T, datapath, kernel string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.onKernel(kernel)
		s.ip(s.Server, "address add 192.168.1.3/24 dev nic0")
		s.ip(s.Server, "route add 192.168.10.0/24 via 192.168.1.1")
		s.listen(s.Server, "192.168.1.3:22", func(conn net.Conn) { io.Copy(conn, conn) })
		session := s.openSession("192.168.1.3:22")
		config := caddyfile{datapath: datapath}
		s.start(config)
		clients := s.keepAsking("192.168.1.2:80")
		clients.want("before the kill")
		s.kill()
		session.want("kill")
		s.wantNICFree()
		s.start(config)
		clients.want("after the next start")
	})
}

// A killed Caddy leaves its filter behind. The next start on that NIC removes the filter,
// also if that start is in userspace, and the clsact that the killed Caddy had made for it.
func TestStaleFilterIsRemoved(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	before := s.run(s.Server, "tc", "qdisc", "show", "dev", "nic0")
	s.onKernel(withoutTCX)
	s.start(caddyfile{datapath: "kernel"})
	s.wantFilters(1)
	s.kill()
	s.wantFilters(1)
	s.start(caddyfile{datapath: "userspace"})
	s.wantFilters(0)
	if got := s.get("http://192.168.1.2/"); got != "a" {
		t.Errorf("PC1 got %q", got)
	}
	if got := s.run(s.Server, "tc", "qdisc", "show", "dev", "nic0"); got != before {
		t.Errorf("the NIC has %q, want %q", got, before)
	}
}

// A larger flow table takes another set of programs, which stands beside the old set for a
// moment. In the end there is one program, or none.
func TestFiltersAreReplaced(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	before := s.run(s.Server, "tc", "qdisc", "show", "dev", "nic0")
	s.onKernel(withoutTCX)
	s.start(caddyfile{datapath: "kernel\nmax_flows 1024"})
	session := s.keepAsking("192.168.1.2:80")
	session.want("before the reload")
	s.load(caddyfile{datapath: "kernel\nmax_flows 4096"})
	s.wantFilters(1)
	session.want("with a larger table")
	s.load(caddyfile{datapath: "userspace"})
	s.wantFilters(0)
	session.want("in userspace")
	s.load(caddyfile{datapath: "kernel"})
	s.wantFilters(1)
	session.want("in the kernel again")
	s.stop()
	if got := s.run(s.Server, "tc", "qdisc", "show", "dev", "nic0"); got != before {
		t.Errorf("the NIC has %q after stop, want %q", got, before)
	}
}

// wantFilters checks how many filters of ours the NIC has.
func (s *scene) wantFilters(n int) {
	s.t.Helper()
	filters := s.run(s.Server, "tc", "filter", "show", "dev", "nic0", "ingress")
	if got := strings.Count(filters, " caddy-vnic"); got != n {
		s.t.Fatalf("the NIC has %d filters of ours, want %d:\n%s", got, n, filters)
	}
}

// clients ask for a page over and over, each time by a new connection.
type clients struct {
	s       *scene
	answers atomic.Int64
}

func (s *scene) keepAsking(address string) *clients {
	c := &clients{s: s}
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				if c.ask(ctx, address) == nil {
					c.answers.Add(1)
				}
			}
		})
	}
	s.t.Cleanup(func() { cancel(); running.Wait() })
	return c
}

// ask leaves nothing behind that dials: the next answer may never come.
func (c *clients) ask(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := c.s.PC1.DialContext(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\nHost: "+address+"\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && !strings.Contains(string(answer), " 200 OK\r\n") {
		err = fmt.Errorf("%s: %q", address, answer)
	}
	return err
}

// want waits for ten more answers.
func (c *clients) want(when string) {
	c.s.t.Helper()
	so := c.answers.Load()
	c.s.waitFor("answers "+when, func() bool { return c.answers.Load() >= so+10 })
}
