package vnicbridge

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/health"
)

// site is the server of segment a, as health checks meet it.
type site struct {
	mu     sync.Mutex
	answer func(net.Conn) // nil: nothing listens
	asked  int
}

func (s *site) set(answer func(net.Conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// dial is a dialer that reaches nothing but the site.
func (s *site) dial(_ context.Context, _, address string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.answer == nil || address != serverA+":80" {
		return nil, fmt.Errorf("dial %s: connection refused", address)
	}
	here, there := net.Pipe()
	go func(answer func(net.Conn)) {
		defer there.Close()
		answer(there)
	}(s.answer)
	return here, nil
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// respond answers a request for /up with a status.
func respond(status int) func(net.Conn) {
	return func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		if request.URL.Path != "/up" || request.UserAgent() != "caddy-vnic health check" {
			status = http.StatusNotFound
		}
		resp := http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Location": {"http://nowhere/"}}}
		_ = resp.Write(conn)
	}
}

// hang takes a connection and never answers.
func hang(conn net.Conn) {
	for buffer := make([]byte, 1024); ; {
		if _, err := conn.Read(buffer); err != nil {
			return
		}
	}
}

// greet is a mail server, which speaks first.
func greet(conn net.Conn) {
	go fmt.Fprint(conn, "220 mail ESMTP\r\n")
	hang(conn)
}

// healthRig is a rig whose segment a is checked.
type healthRig struct {
	*rig
	site    *site
	changes []Event
}

func checkedConfig(h config.Health) *config.Config {
	cfg := paperConfig()
	cfg.Segments["a"].Health = &h
	return cfg
}

var httpHealth = config.Health{Protocol: config.HealthHTTP, Port: 80, Path: "/up"}

// onEachChecked runs a test on each data path, with a site that is healthy.
func onEachChecked(t *testing.T, cfg *config.Config, test func(t *testing.T, r *healthRig)) {
	bubble(t, func(t *testing.T) {
		r := &healthRig{rig: newEmptyRig(t), site: &site{answer: respond(http.StatusOK)}}
		r.plane.dial = r.site.dial
		r.plane.happened = func(e Event) {
			if e.Name == SegmentDown || e.Name == SegmentUp {
				r.changes = append(r.changes, e)
			}
		}
		if err := r.plane.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		r.settle()
		test(t, r)
	})
}

// pass lets time pass, and what is due in it happen.
func (r *healthRig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	for _, device := range []string{"nic0", "vnic-A", "vnic-B"} {
		r.got(device)
	}
}

func (r *healthRig) health() HealthStatus { return r.plane.Status().Segments["a"].Health }

// wantNew checks which segment a new flow gets.
func (r *healthRig) wantNew(sport uint16, device string) {
	r.t.Helper()
	r.put("nic0", fromRouter(router, sport, 80).tcp("S", ""))
	for _, d := range []string{"vnic-A", "vnic-B"} {
		if got := len(r.got(d)) == 1; got != (d == device) {
			r.t.Errorf("the SYN from port %d reached %s: %v, want it to reach %s", sport, d, got, device)
		}
	}
}

// Rows F10, F11: an unhealthy segment gets no new flows, those that it has go on,
// and new ones come again when it has recovered.
func TestAnUnhealthySegment(t *testing.T) {
	onEachChecked(t, checkedConfig(httpHealth), func(t *testing.T, r *healthRig) {
		alias := r.open(router, 4000)
		r.pass(time.Minute)
		r.wantNew(4001, "vnic-A")
		if got := r.health(); !got.Healthy || !got.Checked || !got.Since.IsZero() {
			t.Errorf("the health is %+v", got)
		}

		r.site.set(respond(http.StatusServiceUnavailable))
		r.pass(15*time.Second + 2*maintainInterval) // fails × interval
		r.wantNew(4002, "vnic-B")
		if got := r.health(); got.Healthy || !strings.Contains(got.Reason, "503") || got.Since.IsZero() {
			t.Errorf("the health is %+v", got)
		}
		r.put("nic0", fromRouter(router, 4000, 80).tcp("A", "x"))
		if d := decode(r.one("vnic-A")); d.src != alias || d.payload != "x" {
			t.Errorf("the established flow gives %+v", d)
		}

		r.site.set(respond(http.StatusFound))
		r.pass(10 * time.Second) // passes × interval
		r.wantNew(4003, "vnic-A")
		if len(r.changes) != 2 || !strings.Contains(fmt.Sprint(r.changes[0]), "503") || fmt.Sprint(r.changes[1]) != "{segment_up map[segment:a]}" {
			t.Errorf("the changes are %+v", r.changes)
		}
	})
}

// What fails: a status, silence, a refusal; and by TCP, a refusal alone.
func TestWhatIsHealthy(t *testing.T) {
	tcp := config.Health{Protocol: config.HealthTCP, Port: 80}
	for _, test := range []struct {
		name   string
		health config.Health
		answer func(net.Conn)
		reason string // empty: healthy
	}{
		{"status 200", httpHealth, respond(200), ""},
		{"status 399", httpHealth, respond(399), ""},
		{"status 400", httpHealth, respond(400), "GET http://192.168.50.1:80/up: 400"},
		{"early hints, then status 200", httpHealth, func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				fmt.Fprint(conn, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
			}
		}, ""},
		{"silence", httpHealth, hang, "http/80 does not answer within 2s"},
		{"no listener", httpHealth, nil, "connection refused"},
		{"no HTTP", httpHealth, greet, "GET http://192.168.50.1:80/up: malformed HTTP"},
		{"TCP", tcp, hang, ""},
		{"TCP, no listener", tcp, nil, "connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reason := ""
				if err := health.Probe(t.Context(), test.health.WithDefaults(), (&site{answer: test.answer}).dial, netip.MustParseAddr(serverA)); err != nil {
					reason = err.Error()
				}
				if (reason == "") != (test.reason == "") || !strings.Contains(reason, test.reason) {
					t.Errorf("the reason is %q, want %q", reason, test.reason)
				}
			})
		})
	}
}

// A segment that is found unhealthy is so after fails × interval at most, and the
// timeout if it is silent.
func TestHealthIsFoundInTime(t *testing.T) {
	h := config.Health{Protocol: config.HealthHTTP, Port: 80, Path: "/up", Interval: config.Duration(time.Second), Timeout: config.Duration(time.Second), Fails: 2}
	onEachChecked(t, checkedConfig(h), func(t *testing.T, r *healthRig) {
		for range 20 {
			r.site.set(hang)
			r.pass(3 * time.Second)
			if r.health().Healthy {
				t.Error("healthy after two intervals and the timeout")
			}
			r.site.set(respond(200))
			r.pass(3*time.Second + 137*time.Millisecond)
			if !r.health().Healthy {
				t.Error("unhealthy after it has answered for three intervals")
			}
		}
	})
}

// No segment is healthy: the policy gives none, and the client is told.
func TestNoHealthySegment(t *testing.T) {
	cfg := checkedConfig(httpHealth)
	cfg.Segments["b"].Health = &config.Health{Protocol: config.HealthTCP, Port: 80}
	onEachChecked(t, cfg, func(t *testing.T, r *healthRig) {
		r.site.set(nil)
		r.pass(time.Minute)
		r.put("nic0", fromRouter(router, 4000, 80).tcp("S", ""))
		if d := decode(r.one("nic0")); d.flags&0x04 == 0 {
			t.Errorf("the client gets %+v, want a RST", d)
		}
		r.silent("vnic-A", "vnic-B")
		if n := r.drops("nic0", "no_segment"); n != 1 {
			t.Errorf("%d drops, want 1", n)
		}
	})
}

// A reload that leaves the check as it is leaves the health as it is. Another
// check begins anew.
func TestHealthOverReloads(t *testing.T) {
	onEachChecked(t, checkedConfig(httpHealth), func(t *testing.T, r *healthRig) {
		apply := func(cfg *config.Config) {
			t.Helper()
			if err := r.plane.Apply(cfg); err != nil {
				t.Fatal(err)
			}
			r.settle()
		}
		r.site.set(nil)
		r.pass(time.Minute)
		same := checkedConfig(httpHealth)
		same.Segments["a"].Egress = config.EgressOff
		same.Segments["a"].Health.Timeout = config.Duration(2 * time.Second) // the default
		apply(same)
		if r.health().Healthy || len(r.changes) != 1 {
			t.Errorf("after a reload: %+v, %+v", r.health(), r.changes)
		}
		before := r.site.count()
		r.pass(time.Minute)
		if asked := r.site.count() - before; asked < 12 || asked > 14 {
			t.Errorf("asked %d times a minute", asked)
		}
		r.wantNew(4000, "vnic-B")

		apply(checkedConfig(config.Health{Protocol: config.HealthHTTP, Port: 80, Path: "/other"}))
		r.wantNew(4001, "vnic-A")
		r.pass(time.Minute)
		r.wantNew(4002, "vnic-B")
		apply(paperConfig())
		r.wantNew(4003, "vnic-A")
		before = r.site.count()
		r.pass(time.Minute)
		if n := r.site.count() - before; n > 0 {
			t.Errorf("asked %d times after the check was removed", n)
		}
	})
}

// A stopped segment is not asked; started again, it is healthy until its checks
// say otherwise. Whether it is drained makes no difference to its health.
func TestHealthOfAStoppedSegment(t *testing.T) {
	onEachChecked(t, checkedConfig(httpHealth), func(t *testing.T, r *healthRig) {
		set := func(state config.State) {
			t.Helper()
			if err := r.plane.SetState("a", state); err != nil {
				t.Fatal(err)
			}
		}
		set(config.Draining)
		r.site.set(nil)
		r.pass(time.Minute)
		set(config.Active)
		r.wantNew(4000, "vnic-B")
		set(config.Stopped)
		before := r.site.count()
		r.pass(time.Minute)
		if n := r.site.count() - before; n > 0 {
			t.Errorf("asked %d times while stopped", n)
		}
		set(config.Active)
		r.wantNew(4001, "vnic-A")
		r.pass(time.Minute)
		r.wantNew(4002, "vnic-B")
	})
}

// A VNIC that cannot be made again at once takes its segment out, whether that is
// checked or not; it is back with the VNIC. Nothing is asked meanwhile.
func TestALostVNICIsUnhealthy(t *testing.T) {
	onEachChecked(t, checkedConfig(httpHealth), func(t *testing.T, r *healthRig) {
		old := r.machine.device("vnic-A")
		old.Close() // and it is made again
		r.pass(time.Second)
		if len(r.changes) > 0 {
			t.Errorf("a VNIC that is back at once changes the health: %+v", r.changes)
		}
		r.machine.mu.Lock()
		r.machine.fail = "vnic-A"
		r.machine.mu.Unlock()
		r.machine.device("vnic-A").Close()
		r.pass(time.Second)
		r.wantNew(4000, "vnic-B")
		if got := r.health(); got.Healthy || got.Reason != "its VNIC is gone" {
			t.Errorf("the health is %+v", got)
		}
		before := r.site.count()
		r.pass(time.Minute)
		if n := r.site.count() - before; n > 0 {
			t.Errorf("asked %d times without a VNIC", n)
		}
		r.machine.mu.Lock()
		r.machine.fail = ""
		r.machine.mu.Unlock()
		r.pass(2 * retryInterval)
		r.wantNew(4001, "vnic-A")
	})
}

// The end of the listener that is checked is known without asking. Where there is
// no check, or another port's listener ends, it says nothing about the health.
func TestAClosedListenerIsUnhealthy(t *testing.T) {
	cfg := checkedConfig(config.Health{Protocol: config.HealthHTTP, Port: 80, Path: "/up", Interval: config.Duration(time.Hour)})
	cfg.Segments["a"].Ports, cfg.Segments["b"].Ports = nil, nil
	onEachChecked(t, cfg, func(t *testing.T, r *healthRig) {
		tcp := func(port uint16) config.PortRange {
			return config.PortRange{Protocol: config.TCP, First: port, Last: port}
		}
		for _, release := range []func(){r.plane.OpenPort("a", tcp(443)), r.plane.OpenPort("b", tcp(80))} {
			defer release()
		}
		first := r.plane.OpenPort("a", tcp(80))
		r.pass(time.Second)
		second := r.plane.OpenPort("a", tcp(80)) // as at a reload
		first()
		r.plane.OpenPort("a", tcp(8080))()
		r.pass(time.Second)
		r.wantNew(4000, "vnic-A")
		second()
		r.pass(time.Second)
		r.wantNew(4001, "vnic-B")
		if got := r.health().Reason; got != "the listener on tcp/80 has closed" {
			t.Errorf("the reason is %q", got)
		}
	})
}
