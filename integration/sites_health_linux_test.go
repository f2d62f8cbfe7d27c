package integration_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	tokens "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

func init() { caddy.RegisterModule(eventLogger{}) }

// eventLogger is a handler of Caddy's events that logs them, in the binary under
// test.
type eventLogger struct{}

func (eventLogger) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_log", New: func() caddy.Module { return new(eventLogger) }}
}

// UnmarshalCaddyfile takes no arguments.
func (*eventLogger) UnmarshalCaddyfile(*tokens.Dispenser) error { return nil }

func (*eventLogger) Handle(_ context.Context, e caddy.Event) error {
	caddy.Log().Info("heard "+e.Name(), zap.String("from", string(e.Origin().CaddyModule().ID)), zap.Any("data", e.Data))
	return nil
}

var (
	_ caddyevents.Handler = (*eventLogger)(nil)
	_ tokens.Unmarshaler  = (*eventLogger)(nil)
)

// breakable is a web server that is not Caddy's, which can be made to fail.
type breakable struct {
	status atomic.Int32
	checks atomic.Int32 // that were answered
}

func (b *breakable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.UserAgent() == "caddy-vnic health check" {
		b.checks.Add(1)
	}
	w.WriteHeader(int(b.status.Load()))
	io.WriteString(w, "a")
}

// serveBreakable serves HTTP on a host until the test ends.
func (s *scene) serveBreakable(h *netlab.Host, address string) *breakable {
	s.t.Helper()
	b := new(breakable)
	b.status.Store(http.StatusOK)
	s.serveHTTP(h, address, b)
	return b
}

// failoverLoad is a number of clients on PC1 that each make one connection after
// the other.
type failoverLoad struct {
	end  context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex
	good map[string]int // answers with status 200, by segment
	bad  []time.Time    // when there was another answer, or none
	err  error          // the last one
}

func (s *scene) loadNewConnections(url string) *failoverLoad {
	ctx, cancel := context.WithCancel(s.t.Context())
	l := &failoverLoad{end: cancel, good: make(map[string]int)}
	client := s.PC1.HTTPClient()
	for range 8 {
		l.done.Go(func() {
			for ctx.Err() == nil {
				said, err := fetch(client, url)
				l.mu.Lock()
				if err == nil {
					l.good[said]++
				} else {
					l.bad, l.err = append(l.bad, time.Now()), err
				}
				l.mu.Unlock()
			}
		})
	}
	s.t.Cleanup(l.finish)
	return l
}

func (l *failoverLoad) finish() {
	l.end()
	l.done.Wait()
}

// answers is how often a segment has answered so far.
func (l *failoverLoad) answers(segment string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good[segment]
}

// failures takes the failures so far.
func (l *failoverLoad) failures() []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	bad := l.bad
	l.bad = nil
	return bad
}

// Row F10: a site stops answering under load, and its checks find that. New connections get
// the other segment, and from then on none fails. A connection that was open goes on. When
// the site has recovered, it gets its clients back. The status, events and metrics tell all
// this, also over a reload.
func TestHealthFailover(t *testing.T) {
	const interval, fails = 300 * time.Millisecond, 3
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := caddyfile{
			datapath: datapath, policy: "lb_policy first a b",
			a:      fmt.Sprintf("ports any\nhealth http/80 /healthz {\ninterval %s\nfails %d\n}", interval, fails),
			sites:  "http:// {\nbind vnic/b\nrespond b\n}\n",
			global: loggedEvents(t),
		}
		s.start(config)
		site := s.serveBreakable(s.Server, "192.168.50.1:80")
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		s.waitFor("a is healthy, and checked", func() bool { return site.checks.Load() > 2 && s.health("a").Healthy })
		session := s.openSession("192.168.1.2:9000")
		load := s.loadNewConnections("http://192.168.1.2/")
		s.waitFor("answers of a", func() bool { return load.answers("a") > 100 })

		broken := time.Now()
		site.status.Store(http.StatusInternalServerError)
		s.waitFor("a is unhealthy", func() bool { return !s.health("a").Healthy })
		found := time.Since(broken)
		s.waitForAnswers(load, "b", 100)
		bad := load.failures()
		if len(bad) == 0 {
			t.Fatal("no client met the broken site")
		}
		t.Logf("interval %s, fails %d: found after %s; the last of %d clients met the broken site after %s",
			interval, fails, found, len(bad), slices.MaxFunc(bad, time.Time.Compare).Sub(broken))
		s.wantLog(`heard vnic.segment_down","from":"vnic","data":{"reason":"GET http://192.168.50.1:80/healthz: 500 Internal Server Error","segment":"a"}`)
		session.want("the failover")

		before, flows := s.health("a"), s.metric(`caddy_vnic_segment_new_flows_total{segment="b"}`)
		s.reload(config)
		if after := s.health("a"); after.Healthy || after.Since != before.Since {
			t.Errorf("after the reload the health of a is %+v, was %+v", after, before)
		}
		if after := s.metric(`caddy_vnic_segment_new_flows_total{segment="b"}`); after < flows || flows < 100 {
			t.Errorf("%v new flows of b, then a reload, then %v", flows, after)
		}
		s.waitForAnswers(load, "b", 500)
		if a, b := s.metric(`caddy_vnic_segment_healthy{segment="a"}`), s.metric(`caddy_vnic_segment_healthy{segment="b"}`); a != 0 || b != 1 {
			t.Errorf("the metric of health is %v for a, and %v for b", a, b)
		}

		site.status.Store(http.StatusOK)
		s.waitForAnswers(load, "a", 100)
		s.wantLog(`heard vnic.segment_up","from":"vnic","data":{"segment":"a"}`)
		load.finish()
		if more := load.failures(); len(more) > 0 {
			t.Errorf("%d clients failed after the failover: %v", len(more), load.err)
		}
		session.want("the recovery")
	})
}

// loggedEvents is the global option that docs/operating.md shows, for both events,
// with a module of these tests in the place of one that Caddy does not have.
func loggedEvents(t *testing.T) string {
	t.Helper()
	example := examples.Beginning(t, "docs/operating.md", "{\n    events {")
	option := strings.TrimSuffix(strings.TrimPrefix(example, "{\n"), "}\n")
	down, message, found := strings.Cut(option, "exec ")
	_, rest, _ := strings.Cut(message, "\n")
	if !found || !strings.HasSuffix(down, "on vnic.segment_down ") {
		t.Fatalf("docs/operating.md shows\n%s", example)
	}
	return down + "test_log\non vnic.segment_up test_log\n" + rest
}

func (s *scene) health(segment string) vnicbridge.HealthStatus {
	s.t.Helper()
	return s.status().Segments[segment].Health
}

// waitForAnswers waits for a number of answers more.
func (s *scene) waitForAnswers(l *failoverLoad, segment string, more int) {
	s.t.Helper()
	enough := l.answers(segment) + more
	s.waitFor("answers of "+segment, func() bool { return l.answers(segment) >= enough })
}

// metric scrapes one metric, which must be there.
func (s *scene) metric(name string) float64 {
	s.t.Helper()
	for line := range strings.Lines(s.fromAdmin("/metrics")) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return value
		}
	}
	s.t.Fatalf("/metrics has no %s", name)
	return 0
}

// The check of a segment with a namespace of its own is sent from within: it reaches only
// what is in the namespace, and nothing outside reaches that.
func TestHealthInANamespace(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		name := s.namespaces()["a"]
		s.start(caddyfile{
			datapath: datapath, policy: "lb_policy first a b",
			a:     "ports tcp/80\nnetns " + name + "\nhealth tcp/80 {\ninterval 100ms\n}",
			sites: "http:// {\nbind vnic/b\nrespond b\n}\n",
		})
		s.waitFor("a without a server is unhealthy", func() bool { return !s.health("a").Healthy })
		if got := s.get("http://192.168.1.2/"); got != "b" {
			t.Errorf("PC1 gets %q", got)
		}
		s.serveBreakable(s.enter(name), "192.168.50.1:80")
		s.waitFor("a with a server is healthy", func() bool { return s.health("a").Healthy })
		if got := s.get("http://192.168.1.2/"); got != "a" {
			t.Errorf("PC1 gets %q", got)
		}
	})
}

// A reload takes away Caddy's own site, and the segment stays. No check need fail, because
// the listener has closed. When the site is back, so is the segment. A stop by hand does not
// change a segment's health.
func TestHealthOfACaddySite(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := caddyfile{datapath: datapath, policy: "lb_policy first a b", a: "health http/80 {\ninterval 100ms\n}"}
		without := config
		without.sites = "http:// {\nbind vnic/b\nrespond b\n}\n"
		s.start(without)
		s.waitFor("a without a site is unhealthy", func() bool { return strings.Contains(s.health("a").Reason, "connection refused") })
		for range 3 {
			s.load(config)
			s.waitFor("a with a site is healthy", func() bool { return s.health("a").Healthy })
			if got := s.get("http://192.168.1.2/"); got != "a" {
				t.Errorf("PC1 gets %q", got)
			}
			s.load(without)
			s.waitFor("the closed listener is noticed", func() bool { return s.health("a").Reason == "the listener on tcp/80 has closed" })
			if got := s.get("http://192.168.1.2/"); got != "b" {
				t.Errorf("PC1 gets %q", got)
			}
		}
		s.load(config)
		s.waitFor("a is healthy again", func() bool { return s.health("a").Healthy })
		before := s.health("a")
		s.operate("stop", "a")
		s.operate("start", "a")
		if after := s.health("a"); after != before {
			t.Errorf("a stop and a start change the health from %+v to %+v", before, after)
		}
	})
}
