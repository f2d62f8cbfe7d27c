package integration_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// dashboardScene has a healthy segment and one that is not, whose device has a name
// that would be markup if the page let it.
var dashboardScene = strings.Replace(caddyfile{
	a:      "health http/80",
	b:      "health http/80 /none {\ninterval 100ms\nfails 1\n}\nweight 2",
	policy: "steer b port tcp/81\nlb_policy weighted_round_robin a b",
	sites: `
http:// {
	bind vnic/a
	respond "a"
}
http:// http://:81 {
	bind vnic/b
	respond / "b"
	error 404
}
`,
}.String(), "vnic-B", "<img>vnic-B", 1)

// TestDashboard opens the dashboard in a browser on the server, and does there what
// an administrator would do.
func TestDashboard(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	if err := s.tryStart(dashboardScene); err != nil {
		t.Fatal(err)
	}
	url := s.serveDashboard()
	s.wantNoDashboard(url)
	b := s.newBrowser(s.Server)
	b.resize(1180, 900)
	if !b.open(url) {
		t.Fatal("the page does not open")
	}
	b.awaitText("#connection", "Live")
	for _, step := range []struct {
		name string
		run  func(*testing.T, *scene, *browser)
	}{
		{"is spent", func(_ *testing.T, s *scene, _ *browser) { s.wantNoDashboard(url) }},
		{"shows what there is", dashboardShows},
		{"is live", dashboardIsLive},
		{"operates", dashboardOperates},
		{"lists flows", dashboardListsFlows},
		{"points at values", dashboardPointsAtValues},
		{"explains drops", dashboardExplainsDrops},
		{"bans", dashboardBans},
		{"captures", dashboardCaptures},
		{"by keyboard", dashboardByKeyboard},
		{"remembers", dashboardRemembers},
		{"on any screen", dashboardOnAnyScreen},
		{"in the dark", dashboardInTheDark},
		{"complains about nothing", func(t *testing.T, _ *scene, b *browser) {
			if complaints := b.complaintsSoFar(); len(complaints) > 0 {
				t.Errorf("on the console: %s", strings.Join(complaints, "\n"))
			}
		}},
		{"loses Caddy and finds it again", dashboardLosesCaddy},
		{"hidden", dashboardHidden},
		{"other pages", func(t *testing.T, s *scene, b *browser) { otherPages(t, s, b, url) }},
	} {
		t.Run(step.name, func(t *testing.T) { b.t = t; step.run(t, s, b) })
	}
	b.t = t
}

// The dashboard shows the addresses, gateways and clients of both families, and a family for
// which there is no segment.
func TestDashboardOfFamilies(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{IPv6: true})
	s.start(caddyfile{families: "46", gateway6: "fe80::1", a: "limit flows 1000", policy: "lb_policy first a"})
	if got := s.get("http://" + pseudo6 + "/"); got != "a" {
		t.Fatalf("PC1 gets %q", got)
	}
	b := s.newBrowser(s.Server)
	b.resize(1180, 900)
	if !b.open(s.serveDashboard()) {
		t.Fatal("the page does not open")
	}
	for selector, texts := range map[string][]string{
		"#topology": {"192.168.1.2/24 2001:db8:1::2/64", "gateway 192.168.1.1 fe80::1", "✓ link up", "fd00:50::1/64"},
		"#bridges":  {"2001:db8:1::2/64", "gateway 192.168.1.1 fe80::1"},
		"#clients":  {"2001:db8:10::/64"},
		"#segments": {"at most 1,000 flows"},
	} {
		for _, text := range texts {
			b.awaitText(selector, text)
		}
	}
	if got := b.eval(`document.querySelector("#bridges").textContent.includes("no segment")`); got != false {
		t.Error("the page lacks a segment for a family")
	}
	four := strings.NewReplacer(" fd00:50::1/64", "", " fd00:60::1/64", "").Replace(caddyfile{families: "46", gateway6: "fe80::1"}.String())
	s.loadText(four)
	b.awaitText("#bridges", "✕ no segment for IPv6")
	b.resize(320, 780)
	b.wantWidth(320)
	if complaints := b.complaintsSoFar(); len(complaints) > 0 {
		t.Errorf("on the console: %s", strings.Join(complaints, "\n"))
	}
}

// serveDashboard runs `caddy vnic dashboard` as the page on operating shows it, and
// returns what it prints as its URL.
func (s *scene) serveDashboard() string {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	example := strings.Fields(examples.Beginning(s.t, "docs/operating.md", "caddy vnic dashboard "))
	cmd := exec.Command(self, example[1:]...)
	cmd.Env = append(os.Environ(), asCaddy)
	_, url := s.startDashboard(s.Server, cmd)
	return url
}

// startDashboard starts what serves the dashboard, and returns the URL that it prints.
func (s *scene) startDashboard(h *netlab.Host, cmd *exec.Cmd) (*netlab.Process, string) {
	s.t.Helper()
	output, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	process, err := h.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	said := make([]byte, 0, 4096)
	for {
		n, err := output.Read(said[len(said):cap(said)])
		said = said[:len(said)+n]
		if url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/\?token=\w+\r?\n`).Find(said); url != nil {
			return process, strings.TrimSpace(string(url))
		}
		if err != nil {
			s.t.Fatalf("the dashboard says %q: %v", said, err)
		}
	}
}

// wantNoDashboard asks without the session.
func (s *scene) wantNoDashboard(url string) {
	s.t.Helper()
	root, _, _ := strings.Cut(url, "?")
	for _, from := range []struct{ url, host, origin string }{
		{url: root}, {url: root + "?token=x"}, {url: root + "vnic/status"}, {url: root + "dashboard.js"},
		{url: url, host: "dashboard.example"}, {url: url, origin: "http://dashboard.example"},
	} {
		r, err := http.NewRequest(http.MethodGet, from.url, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Host = from.host
		if from.origin != "" {
			r.Header.Set("Origin", from.origin)
		}
		response, err := s.Server.HTTPClient().Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden || len(response.Cookies()) > 0 {
			s.t.Errorf("%+v is answered by %s", from, response.Status)
		}
	}
}

func dashboardShows(t *testing.T, s *scene, b *browser) {
	b.awaitText("#segments", "unhealthy")
	for selector, texts := range map[string][]string{
		"#topology": {"nic0", "lan", "192.168.1.2/24", "weighted_round_robin", "192.168.60.1/24", "✕ unhealthy"},
		"#bridges":  {"✓ link up", "gateway 192.168.1.1"},
		"#segments": {"vnic-A", "host's namespace", "404 Not Found", "<img>vnic-B"},
		"#events":   {"packets are carried", "the segment is unhealthy", "segment=b"}, // the first check may come before the site listens,
	} {
		for _, text := range texts {
			b.awaitText(selector, text)
		}
	}
	if got := b.eval(`document.title + document.querySelectorAll("main img").length`); got != "caddy-vnic0" {
		t.Errorf("a name became markup: %v", got)
	}
	if got := b.eval("location.href + document.cookie"); strings.Contains(got.(string), "token") || strings.Contains(got.(string), "caddy-vnic") {
		t.Errorf("the token or the session can be seen at %v", got)
	}
}

// What clients do shows without a reload: in the figures, the charts and the list of
// drops.
func dashboardIsLive(t *testing.T, s *scene, b *browser) {
	for range 5 {
		s.run(s.PC1, "curl", "-sf", "http://192.168.1.2/")
	}
	s.PC1.Run(t.Context(), "curl", "-s", "--max-time", "1", "http://192.168.1.2:82/") // which is closed
	b.await(`document.querySelector("[aria-labelledby=segment-a] dd").textContent >= 5`)
	b.await(`Math.min(...document.querySelector("[aria-labelledby=segment-a] .plot .line").getAttribute("d").slice(1).split("L").map(p => p.split(" ")[1])) < 50`)
	b.await(`/ [1-9]\d* of 1,048,576 flows/.test(document.querySelector("#summary").textContent)`)
	b.awaitText("#drops", "port_not_open")
}

func dashboardOperates(t *testing.T, s *scene, b *browser) {
	expect := func(what string, holds func(vnicbridge.Status) bool) {
		t.Helper()
		s.waitFor(what, func() bool { return holds(s.status()) })
	}
	state := func(want config.State) {
		t.Helper()
		expect("a is "+want.String(), func(st vnicbridge.Status) bool { return st.Segments["a"].State == want })
		b.await(fmt.Sprintf(`document.querySelector("[aria-labelledby=segment-a] .badge").textContent.includes(%q)`, map[config.State]string{
			config.Active: "healthy", config.Draining: "draining", config.Stopped: "stopped"}[want]))
	}
	b.click("Drain segment a")
	state(config.Draining)
	b.click("Activate segment a")
	state(config.Active)

	b.click("Stop segment a")
	b.await(`document.querySelector("#confirm").open`)
	b.eval(`document.querySelector("#confirm-no").click()`)
	b.await(`!document.querySelector("#confirm").open`)
	if got := s.status().Segments["a"].State; got != config.Active {
		t.Errorf("what was cancelled made a %s", got)
	}
	b.click("Stop segment a")
	b.eval(`document.querySelector("#confirm-yes").click()`)
	state(config.Stopped)
	b.click("Start segment a")
	state(config.Active)

	b.click("switch to b")
	expect("lan is switched", func(st vnicbridge.Status) bool { return st.Bridges["lan"].SwitchedTo == "b" })
	b.awaitText("#bridges", "switched to b")
	b.click("lb_policy weighted_round_robin a b")
	expect("lan is switched back", func(st vnicbridge.Status) bool { return st.Bridges["lan"].SwitchedTo == "" })

	b.eval(`document.querySelector('[aria-label="Weight of segment b"]').value = 7`)
	b.click("Set weight of segment b")
	expect("b has its weight", func(st vnicbridge.Status) bool { return st.Segments["b"].Weight == 7 })
	b.click("Undo weight of segment b")
	expect("b has its own weight", func(st vnicbridge.Status) bool { return st.Segments["b"].Weight == 2 })
	// What is looked at more seldom is looked at after an action, too.
	b.awaitText("#events", "the bridge was switched")
	b.awaitText("#clients", paper.PC1Addr.String())
}

// Tab and Enter lead to every action, with the focus in sight; Escape cancels.
func dashboardByKeyboard(t *testing.T, s *scene, b *browser) {
	b.eval("document.activeElement.blur()")
	b.tabTo("Drain segment a")
	if outline := b.eval(`getComputedStyle(document.activeElement).outlineStyle`); outline != "solid" {
		t.Errorf("the focus is not in sight: its outline is %v", outline)
	}
	b.press("Enter")
	s.waitFor("a is draining", func() bool { return s.status().Segments["a"].State == config.Draining })
	b.await(`document.activeElement.getAttribute("aria-label") === "Activate segment a"`)
	b.press("Enter")
	s.waitFor("a is active", func() bool { return s.status().Segments["a"].State == config.Active })

	b.tabTo("Stop segment a")
	b.press("Enter")
	b.await(`document.activeElement.id === "confirm-no"`)
	b.press("Escape")
	b.await(`!document.querySelector("#confirm").open`)
	if got := s.status().Segments["a"].State; got != config.Active {
		t.Errorf("Escape made a %s", got)
	}
	if unnamed := b.eval(`[...document.querySelectorAll("button, input, [role=img]")].filter(e => !(e.getAttribute("aria-label") || e.id)).map(e => e.outerHTML).join()`); unnamed != "" {
		t.Errorf("without a name are %v", unnamed)
	}
}

func dashboardOnAnyScreen(t *testing.T, s *scene, b *browser) {
	for _, width := range []int{320, 390, 1280, 2560} {
		b.resize(width, 780)
		b.wantWidth(width)
	}
	b.resize(1180, 900)
}

// wantWidth checks that nothing of the page is wider than the window.
func (b *browser) wantWidth(width int) {
	b.t.Helper()
	b.await(fmt.Sprintf(`innerWidth === %d && document.querySelector("#topology svg").getAttribute("width") == document.querySelector("#topology").clientWidth`, width))
	if got := b.eval("document.documentElement.scrollWidth").(float64); got > b.eval(fmt.Sprintf("Math.min(%d, document.documentElement.clientWidth)", width)).(float64) { // beside a scroll bar
		b.t.Errorf("at %d px the page is %v px wide: %v", width, got,
			b.eval(fmt.Sprintf(`[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > %d).map(e => e.tagName + "." + e.getAttribute("class") + " " + e.textContent.slice(0, 30)).join("\n")`, width)))
	}
}

func dashboardInTheDark(t *testing.T, s *scene, b *browser) {
	brightness := func(of string) float64 {
		t.Helper()
		return b.eval(fmt.Sprintf(`getComputedStyle(document.body).%s.match(/\d+/g).slice(0, 3).reduce((sum, c) => sum + Number(c), 0)`, of)).(float64)
	}
	for scheme, dark := range map[string]bool{"dark": true, "light": false} {
		b.prefer(scheme)
		if ground, ink := brightness("backgroundColor"), brightness("color"); (ground < ink) != dark {
			t.Errorf("in %s the ground has %v of 765, and the ink %v", scheme, ground, ink)
		}
	}
	b.prefer("light")
}

func dashboardLosesCaddy(t *testing.T, s *scene, b *browser) {
	symptom := examples.SymptomOf(t, troubleshootingPage, "Caddy cannot be asked")
	s.stop()
	if said, err := s.tryShell(symptom.Look[0]); err == nil || !strings.Contains(said, "connection refused") {
		t.Errorf("%s says %v: %s", symptom.Look[0], err, said)
	}
	b.awaitText("#connection", "Not connected")
	b.awaitText("#lost", "Caddy cannot be asked: the admin API at localhost:2019 does not answer")
	// However far one has scrolled, and with the page in another tab.
	b.await(`(() => { scrollTo(0, document.body.scrollHeight); const r = document.querySelector("#lost").getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight })()`)
	b.await(`document.title.includes("Not connected") && getComputedStyle(document.querySelector("#main")).filter === "grayscale(1)"`)
	if err := s.tryStart(dashboardScene); err != nil {
		t.Fatal(err)
	}
	b.awaitText("#connection", "Live")
	b.await(`document.querySelector("#lost").hidden && document.title === "caddy-vnic"`)
	b.complaintsSoFar() // the answers that did not come
}

// A page that nobody sees asks for nothing.
func dashboardHidden(t *testing.T, s *scene, b *browser) {
	const asked = `performance.getEntriesByName(location.origin + "/vnic/status").length`
	b.eval(`performance.clearResourceTimings(); Object.defineProperty(document, "hidden", { value: true, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))`)
	time.Sleep(2500 * time.Millisecond) // longer than it looks away
	before := b.eval(asked)
	if n, ok := before.(float64); !ok || n > 1 {
		t.Errorf("hidden, it asked %v times", before)
	}
	b.eval(`delete document.hidden; document.dispatchEvent(new Event("visibilitychange"))`)
	b.await(fmt.Sprintf("%s > %v", asked, before))
}

// Another page in the same browser, of a segment's site, gets nothing and moves
// nothing, whatever name it calls the dashboard by.
func otherPages(t *testing.T, s *scene, b *browser, url string) {
	root, _, _ := strings.Cut(url, "?")
	if !b.open("http://192.168.50.1/") {
		t.Fatal("the site does not open")
	}
	b.await(`document.body?.innerText === "a"`)
	for _, dashboard := range []string{root, strings.Replace(root, "127.0.0.1", "localhost", 1)} {
		got := b.eval(fmt.Sprintf(`Promise.all([
			fetch(%[1]q + "vnic/status", { credentials: "include" }).then(r => r.text(), () => "refused"),
			fetch(%[1]q + "vnic/segments/a/drain", { method: "POST", mode: "no-cors", credentials: "include" }).then(r => r.type, () => "refused"),
		]).then(all => all.join())`, dashboard))
		if got != "refused,opaque" && got != "refused,refused" {
			t.Errorf("another page at %s gets %v", dashboard, got)
		}
	}
	if got := s.status().Segments["a"].State; got != config.Active {
		t.Errorf("another page made a %s", got)
	}
	b.complaintsSoFar()
}
