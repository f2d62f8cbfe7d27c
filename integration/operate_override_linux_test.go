package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// Row F10: a switch beside clients that connect without pause. Clients that connect after
// the acknowledgement get the other segment, and no client fails. Connections that are open
// stay where they are, as the list of flows shows.
func TestSwitchUnderLoad(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{datapath: datapath, a: "ports any", b: "ports any", policy: "lb_policy round_robin a b"})
		var sessions []*session
		for _, segment := range []string{"192.168.50.1", "192.168.60.1"} {
			s.listen(s.Server, segment+":9000", func(conn net.Conn) { io.Copy(conn, conn) })
		}
		for range 4 {
			sessions = append(sessions, s.openSession("192.168.1.2:9000"))
		}
		segments := s.segmentsOf(sessions)
		load := s.connectAlways("http://192.168.1.2/")
		load.wantFrom(time.Now(), "a", "b")
		for _, to := range []string{"b", "a", "b"} {
			s.vnic("switch", "lan", to)
			load.wantFrom(time.Now(), to)
		}
		s.vnic("switch", "lan", "--undo")
		load.wantFrom(time.Now(), "a", "b")
		load.finish()
		for _, session := range sessions {
			session.want("the switches")
		}
		if got := s.segmentsOf(sessions); got != segments {
			t.Errorf("the sessions were with %s and are with %s", segments, got)
		}
	})
}

// TestOperatingExamples runs the commands that the page on operating shows for
// switches, weights, flows, events and captures, as they stand there.
func TestOperatingExamples(t *testing.T) {
	t.Parallel()
	const page = "docs/operating.md"
	s := newScene(t, paper.NetworkOptions{})
	s.ip(s.Server, "address add "+sshAddress+"/24 dev nic0")
	s.ip(s.Server, "route add default via 192.168.1.1")
	site := examples.Beginning(t, page, "http:// {")
	s.start(caddyfile{policy: "steer a name a.example.com\nlb_policy weighted_round_robin a b", sites: site + strings.ReplaceAll(site, "vnic/a", "vnic/b")})
	s.wantLogged("http://192.168.50.1/", "a")
	for _, e := range examples.On(t, page) {
		if slices.Contains([]string{"Switch and weigh", "Flows", "Events", "Captures"}, e.Section) {
			for command := range strings.Lines(e.Runs(t)) {
				s.shell(strings.ReplaceAll(command, "30s", "100ms"))
			}
		}
	}
	if status := s.status(); status.Bridges["lan"].SwitchedTo != "" || status.Segments["b"].Weight != 1 {
		t.Errorf("the examples do not undo what they do: %+v", status)
	}
	s.forwardDashboard()
}

// shell runs the words of a page on the server, as root with Caddy in the PATH, and
// returns what they print.
func (s *scene) shell(words string) string {
	s.t.Helper()
	output, err := s.tryShell(words)
	if err != nil {
		s.t.Fatal(err)
	}
	return output
}

// tryShell does so where that may fail.
func (s *scene) tryShell(words string) (string, error) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	output, err := s.Server.Run(s.t.Context(), "sh", "-euc", fmt.Sprintf("cd %s; caddy() { env %s %s \"$@\"; }; sudo() { \"$@\"; }\n%s", s.dir, asCaddy, self, words))
	return string(output), err
}

// wantLogged asks for a page that is not there, and waits until a site's access log
// has it with the name of the segment.
func (s *scene) wantLogged(url, segment string) {
	s.t.Helper()
	if _, err := fetch(s.Server.HTTPClient(), url); err == nil {
		s.t.Errorf("there is a page at %s", url)
	}
	s.waitFor("the access log names segment "+segment, func() bool {
		accesses, err := s.caddy.Accesses()
		return err == nil && len(accesses) > 0 && accesses[0].Status == http.StatusNotFound && accesses[0].Segment == segment
	})
}

// vnic runs a command of `caddy vnic` on the server.
func (s *scene) vnic(args ...string) string {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	return s.run(s.Server, "env", append([]string{asCaddy, self, "vnic"}, args...)...)
}

// segmentsOf says which segments sessions are with, by the list of flows.
func (s *scene) segmentsOf(sessions []*session) string {
	s.t.Helper()
	var list flowlist.List
	output := s.vnic("flows", "--json", "--client", paper.PC1Addr.String(), "--protocol", "tcp", "--limit", "10000")
	if err := json.Unmarshal([]byte(output), &list); err != nil {
		s.t.Fatal(err)
	}
	var segments []string
	for _, session := range sessions {
		for _, f := range list.Flows {
			if f.Client.String() == session.conn.LocalAddr().String() && f.Destination.Port() == 9000 && f.State == flowlist.Established {
				segments = append(segments, f.Segment)
			}
		}
	}
	if len(segments) != len(sessions) {
		s.t.Fatalf("of %d sessions, %v are listed in\n%s", len(sessions), segments, output)
	}
	return strings.Join(segments, " ")
}

// connections are requests that clients make without pause, each by a connection of
// its own.
type connections struct {
	s       *scene
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	made []connection
}

type connection struct {
	began time.Time
	body  string
	err   error
}

func (s *scene) connectAlways(url string) *connections {
	ctx, cancel := context.WithCancel(s.t.Context())
	c := &connections{s: s, cancel: cancel}
	for range 4 {
		c.running.Go(func() {
			client := s.PC1.HTTPClient()
			for ctx.Err() == nil {
				c.make(client, url)
			}
		})
	}
	s.t.Cleanup(func() { cancel(); c.running.Wait() })
	return c
}

func (c *connections) make(client *http.Client, url string) {
	made := connection{began: time.Now()}
	made.body, made.err = fetch(client, url)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, made)
}

// wantFrom waits for a hundred connections that began at a time or later, and checks
// that they got those segments, all of them and no other.
func (c *connections) wantFrom(began time.Time, segments ...string) {
	c.s.t.Helper()
	var got map[string]int
	c.s.waitFor("a hundred connections", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		got = make(map[string]int)
		n := 0
		for _, made := range c.made {
			if made.err == nil && !made.began.Before(began) {
				got[made.body]++
				n++
			}
		}
		return n >= 100
	})
	for _, segment := range segments {
		if got[segment] == 0 {
			c.s.t.Errorf("the connections got %v, want %v", got, segments)
		}
		delete(got, segment)
	}
	if len(got) > 0 {
		c.s.t.Errorf("there were also %v, beside %v", got, segments)
	}
}

// finish ends the connections, none of which may have failed.
func (c *connections) finish() {
	c.s.t.Helper()
	c.cancel()
	c.running.Wait()
	for _, made := range c.made {
		if made.err != nil {
			c.s.t.Errorf("a connection failed: %v", made.err)
		}
	}
	c.s.t.Logf("%d connections", len(c.made))
}
