package integration_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows F5 and F5+: Caddy is killed, or stopped, and started again under a policy that always
// chooses the same segment. The connections of servers that are not Caddy's go on. If the
// segment sees its clients' own addresses, connections in which only the server speaks go
// on, too.
func TestServersGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"lb_policy ip_hash a", "lb_policy flow_hash a", "steer a port tcp/9000-9002 tcp/8080"} {
		t.Run(strings.Fields(policy)[1], func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := newScene(t, paper.NetworkOptions{})
				config := caddyfile{
					datapath: datapath, a: "ports any\nclient_ip preserve", b: "ports any", sites: "# none",
					policy: "steer b port tcp/9003\n" + policy,
				}
				s.start(config)
				s.listen(s.Server, "192.168.50.1:9000", echo)
				s.listen(s.Server, "192.168.50.1:9002", func(conn net.Conn) { countUp(conn) })
				s.listen(s.Server, "192.168.60.1:9003", echo)
				data := make([]byte, 16*mib)
				rand.NewChaCha8([32]byte{9}).Read(data)
				s.write("file", string(data))
				s.startNginxThat("192.168.50.1:8080", "root "+s.dir+";")

				preserve, translate := s.openSession("192.168.1.2:9000"), s.openSession("192.168.1.2:9003")
				numbers := s.hearNumbers("192.168.1.2:9002")
				download := s.slowDownload("http://192.168.1.2:8080/file", len(data))
				for name, end := range map[string]func(){"kill": s.kill, "stop": s.stop} {
					preserve.want("the start")
					translate.want("the start")
					end()
					s.start(config)
					numbers.wantMore("a " + name)
					download.step()
					preserve.want("a " + name)
					translate.want("a " + name)
				}
				if got := download.rest(); !bytes.Equal(got, data) {
					t.Errorf("of a file of %d bytes came %d, or others", len(data), len(got))
				}
			})
		})
	}
}

// Row F5+: after a restart a server sends, and its segment knows no client of that address.
// The server is reset within 30 s of the start.
func TestAServerWhoseClientIsUnknownIsTold(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := caddyfile{datapath: datapath, a: "ports any", policy: "lb_policy ip_hash a", sites: "# none"}
		s.start(config)
		ended := make(chan error, 1)
		s.listen(s.Server, "192.168.50.1:9002", func(conn net.Conn) { ended <- countUp(conn) })
		s.hearNumbers("192.168.1.2:9002")
		s.kill()
		s.start(config)
		select {
		case err := <-ended:
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the server got %v, want a reset", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the server is not told")
		}
	})
}

// Row F5+: when Caddy stops, it resets both sides of a connection that nobody will pick up
// again, also while one of them is sending.
func TestAStopTellsWhoSends(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "ports any", policy: "lb_policy round_robin a", sites: "# none"})
		ended := make(chan error, 1)
		s.listen(s.Server, "192.168.50.1:9002", func(conn net.Conn) { ended <- countUp(conn) })
		hears := s.hearNumbers("192.168.1.2:9002")
		s.stop()
		for who, told := range map[string]<-chan error{"client": hears.ended, "server": ended} {
			select {
			case err := <-told:
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the %s gets %v, want a reset", who, err)
				}
			case <-time.After(5 * time.Second):
				t.Errorf("the %s is not told", who)
			}
		}
	})
}

// echo is a server for listen that sends back what it gets.
func echo(conn net.Conn) { io.Copy(conn, conn) }

// countUp is a server for listen that sends a number in a line each few milliseconds.
func countUp(conn net.Conn) error {
	for n := 1; ; n++ {
		if _, err := fmt.Fprintln(conn, n); err != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// numbers are what a client hears of countUp.
type numbers struct {
	s     *scene
	last  atomic.Int64
	ended chan error
}

func (s *scene) hearNumbers(address string) *numbers {
	s.t.Helper()
	conn, err := s.PC1.DialContext(s.t.Context(), networkOf("tcp", address), address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	if err := conn.(*net.TCPConn).SetKeepAlive(false); err != nil { // it only listens
		s.t.Fatal(err)
	}
	n := &numbers{s: s, ended: make(chan error, 1)}
	go func() {
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			if got, want := lines.Text(), strconv.FormatInt(n.last.Load()+1, 10); got != want {
				n.ended <- fmt.Errorf("after %d comes %q", n.last.Load(), got)
				return
			}
			n.last.Add(1)
		}
		n.ended <- lines.Err()
	}()
	n.wantMore("the start")
	return n
}

// wantMore waits until the client has heard some more.
func (n *numbers) wantMore(after string) {
	n.s.t.Helper()
	from := n.last.Load()
	n.s.waitFor("numbers after "+after, func() bool {
		select {
		case err := <-n.ended:
			n.s.t.Fatalf("after %s the client hears %d and then %v", after, n.last.Load(), err)
		default:
		}
		return n.last.Load() >= from+20
	})
}
