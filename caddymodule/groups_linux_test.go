package caddymodule

import (
	"bufio"
	_ "embed"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"
	"github.com/vishvananda/netns"
)

// TestGroups runs the paper's URL-path groups with a real Caddy on the real data plane. A
// client outside requests from the pseudo address, and the front passes its requests on to
// the segments a and b. Segments are in the host's namespace, or in their own.
func TestGroups(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	// The environment's proxy must not be used between segments.
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:3128")
	outside := makeOutside(t)
	t.Cleanup(func() { caddy.Stop() })
	for _, play := range []struct{ name, apart string }{
		{"one namespace", ""},
		{"groups apart", "a b c"},
		{"all apart", "a b c front"},
	} {
		g := &groups{outside: outside, log: t.TempDir() + "/log", apart: strings.Fields(play.apart)}
		if !t.Run(play.name, g.run) {
			return
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob("/run/netns/" + netnsName("*")); err != nil || len(left) > 0 {
		t.Errorf("namespaces are left: %v, %v", left, err)
	}
}

// netnsName returns a name that no other test uses.
func netnsName(segment string) string { return fmt.Sprintf("vnic-test-%d-%s", os.Getpid(), segment) }

// groups is one run of the groups.
type groups struct {
	outside netns.NsHandle
	log     string   // Caddy's log file
	apart   []string // segments with a netns
}

func (g *groups) run(t *testing.T) {
	mustLoad(t, g.caddyfile())
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"groups by path", g.byPath},
		{"one connection", g.oneConnection},
		{"HTTP/2", g.http2},
		{"HTTP/3", g.http3},
		{"odd paths", g.oddPaths},
		{"groups by more", g.byMore},
		{"forged headers", g.forgedHeaders},
		{"POST and retry", g.postAndRetry},
		{"upgrade", g.upgrade},
		{"streaming", g.streaming},
		{"lean proxy", g.leanProxy},
		{"metrics", g.metrics},
		{"no listener", g.noListener},
		{"stopped", g.stopped},
		{"health checks", g.healthChecks},
		{"not between groups", g.notBetweenGroups},
		{"reload", g.reload},
		{"warnings", g.warnings},
	} {
		if !t.Run(step.name, step.run) && testing.Verbose() {
			text, err := os.ReadFile(g.log)
			t.Logf("%s %v", text, err)
		}
	}
}

//go:embed testdata/groups.Caddyfile
var groupsCaddyfile string

// caddyfile returns the run's configuration.
func (g *groups) caddyfile() string {
	replaced := []string{"LOGFILE", g.log, "CLIENT", clientAddr}
	for _, segment := range g.apart {
		replaced = append(replaced, "#netns "+segment+"\n", "netns "+netnsName(segment)+"\n")
	}
	return strings.NewReplacer(replaced...).Replace(groupsCaddyfile)
}

// The client's address, which is not the gateway's; the pseudo address; the
// front's.
const (
	clientAddr = "192.168.1.9"
	pseudo     = "192.168.1.2"
	frontAddr  = "192.168.40.1"
)

// saw returns what a site answers to a request that came through the front.
func saw(segment, path string) string {
	return fmt.Sprintf("%s %s %s %s %s", segment, frontAddr, clientAddr, path, clientAddr)
}

func (g *groups) byPath(t *testing.T) {
	for path, segment := range map[string]string{"/test1/": "a", "/test2/x": "b"} {
		if code, body := g.get(t, path, nil); code != http.StatusOK || body != saw(segment, path) {
			t.Errorf("%s: %d %q, want %q", path, code, body, saw(segment, path))
		}
	}
	if code, body := g.get(t, "/", nil); code != http.StatusPermanentRedirect {
		t.Errorf("/ is no group's: want the redirection to HTTPS, not %d %q", code, body)
	}
	// A client must not get past the front.
	if _, err := g.dial(t.Context(), "tcp", "192.168.50.1:80"); err == nil {
		t.Error("a's own address is reached from outside")
	}
}

// oneConnection checks that each request of one connection goes to its own group.
func (g *groups) oneConnection(t *testing.T) {
	client, dialed := g.client()
	alternate(t, client, "http://"+pseudo)
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func (g *groups) http2(t *testing.T) {
	client, dialed := g.client()
	if !eventually(func() bool {
		resp, err := client.Get("https://site.test/test1/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.ProtoMajor == 2
	}) {
		t.Fatal("no HTTP/2")
	}
	dialed.Store(0)
	alternate(t, client, "https://site.test")
	if n := dialed.Load(); n != 0 {
		t.Errorf("%d more connections", n)
	}
}

func (g *groups) http3(t *testing.T) {
	client := g.http3Client(t)
	if !eventually(func() bool {
		resp, err := client.Get("https://site.test/test1/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}) {
		t.Fatal("no HTTP/3")
	}
	alternate(t, client, "https://site.test")
}

// forgedHeaders checks that a client cannot pretend to be another one, neither to the front
// nor to a segment that trusts the front.
func (g *groups) forgedHeaders(t *testing.T) {
	g.serveOnB(t, echo)
	forged := http.Header{"X-Forwarded-For": {"203.0.113.66"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"bank.test"}}
	if _, body := g.get(t, "/test1/", forged); body != saw("a", "/test1/") {
		t.Errorf("through the front: %q", body)
	}
	_, body := g.get(t, "/echo/", forged)
	for _, line := range []string{"X-Forwarded-Proto: http\r\n", "X-Forwarded-Host: " + pseudo + "\r\n"} {
		if !strings.Contains(body, line) {
			t.Errorf("b got %q, want %q", body, line)
		}
	}
	if len(g.apart) > 0 {
		return // the host does not reach a
	}
	req := request(t, http.MethodGet, "http://192.168.50.1/", nil)
	req.Header = forged
	if _, body := ask(t, &http.Client{Transport: new(http.Transport)}, req); !strings.HasPrefix(body, "a 192.168.50.1 192.168.50.1 ") {
		t.Errorf("from the host itself: %q", body)
	}
}

// postAndRetry checks that a POST goes to the next upstream if the first one refuses the
// connection.
func (g *groups) postAndRetry(t *testing.T) {
	g.serveOnB(t, echo)
	text := strings.Repeat("body ", 10000)
	req := request(t, http.MethodPost, "http://"+pseudo+"/retry/", strings.NewReader(text))
	client, _ := g.client()
	if code, body := ask(t, client, req); code != http.StatusOK || !strings.HasSuffix(body, "\r\n\r\n"+text) {
		t.Errorf("%d %.200q", code, body)
	}
}

// upgrade checks that bytes pass in both directions after an upgrade, such as a WebSocket's.
func (g *groups) upgrade(t *testing.T) {
	g.serveOnB(t, echo)
	conn, err := g.dial(t.Context(), "tcp", pseudo+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline(t, conn)
	fmt.Fprintf(conn, "GET /echo/ HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", pseudo)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	for _, want := range []string{"one\n", "two\n"} {
		fmt.Fprint(conn, want)
		if got, err := r.ReadString('\n'); got != want {
			t.Errorf("%q comes back as %q: %v", want, got, err)
		}
	}
}

// metrics checks that Caddy's metrics of proxies show the segments, by the addresses of their
// aliases.
func (g *groups) metrics(t *testing.T) {
	const want = `caddy_reverse_proxy_upstreams_healthy{upstream="192.168.40.`
	if _, metrics := fetch(t, http.MethodGet, "http://localhost:2019/metrics"); !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %s: %s", want, metrics)
	}
}

// healthChecks checks that the first health check counts, which Caddy makes before the
// segments exist. The next one would be an hour later.
func (g *groups) healthChecks(t *testing.T) {
	if !eventually(func() bool {
		code, body := g.get(t, "/healthy/", nil)
		return code == http.StatusOK && body == saw("b", "/healthy/")
	}) {
		_, upstreams := fetch(t, http.MethodGet, "http://localhost:2019/reverse_proxy/upstreams")
		t.Error("b is not found healthy, or a is: ", upstreams)
	}
	alias := status(t).Segments["front"].Peers["b"][0]
	if _, upstreams := fetch(t, http.MethodGet, "http://localhost:2019/reverse_proxy/upstreams"); !strings.Contains(upstreams, alias.String()+":80") {
		t.Errorf("the admin API lacks %s: %s", alias, upstreams)
	}
}

// reload checks that a reload keeps the aliases, and loses no request of a kept-alive
// connection.
func (g *groups) reload(t *testing.T) {
	client, _ := g.client()
	before := status(t).Segments["front"].Peers
	for range 3 {
		alternate(t, client, "http://"+pseudo)
		mustLoad(t, g.caddyfile())
	}
	mustLoad(t, strings.Replace(g.caddyfile(), "reach a b c", "reach b a c", 1))
	alternate(t, client, "http://"+pseudo)
	for name, aliases := range status(t).Segments["front"].Peers {
		if !slices.Equal(aliases, before[name]) {
			t.Errorf("%s was %s and is %s", name, before[name], aliases)
		}
	}
}

// warnings checks that the log warns if trusted_proxies vnic is missing, because the segments'
// sites then take the front for the client, and that it does not warn otherwise.
func (g *groups) warnings(t *testing.T) {
	const warning = "does not trust the front"
	if text, err := os.ReadFile(g.log); err != nil || strings.Contains(string(text), warning) {
		t.Error("warned without a reason", err)
	}
	mustLoad(t, strings.Replace(g.caddyfile(), "trusted_proxies vnic", "strict_sni_host on", 1))
	g.expectLog(t, warning)
	if _, body := g.get(t, "/test1/", nil); !strings.HasPrefix(body, "a "+frontAddr+" "+frontAddr+" ") {
		t.Errorf("it is trusted all the same: %q", body)
	}
}

func (g *groups) expectLog(t *testing.T, want string) {
	t.Helper()
	var text []byte
	if !eventually(func() bool {
		var err error
		text, err = os.ReadFile(g.log)
		return err == nil && strings.Contains(string(text), want)
	}) {
		t.Errorf("the log lacks %q:\n%s", want, text)
	}
}
