package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// click presses the button of a label as soon as it is in sight.
func (b *browser) click(label string) {
	b.t.Helper()
	b.await(fmt.Sprintf(`(() => { const e = document.querySelector('[aria-label="%s"]'); if (!e?.checkVisibility()) return false; e.click(); return true })()`, label))
}

// fill gives a field a value, as a person does who then leaves it.
func (b *browser) fill(field, value string) {
	b.t.Helper()
	b.await(fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e?.checkVisibility()) return false; e.value = %q; e.dispatchEvent(new Event("change", { bubbles: true })); return true })()`, field, value))
}

// rowsOf is an expression for the rows of a table of the page, each as one text.
func rowsOf(table string) string {
	return `[...document.querySelectorAll("#` + table + ` tbody tr")].map(r => [...r.cells].map(c => c.textContent).join(" "))`
}

// Who is this? The list of flows answers by client, segment, state and protocol, and the list of
// clients leads to it.
func dashboardListsFlows(t *testing.T, s *scene, b *browser) {
	s.run(s.PC1, "curl", "-sf", "http://192.168.1.2/")
	own := rowsOf("flows") + fmt.Sprintf(`.filter(r => r.startsWith("%s:"))`, paper.PC1Addr)
	b.await(own + `.some(r => r.includes(" 192.168.1.2:80 ") && / 192.168.[56]0.1:80 tcp (half-open|established|closing) /.test(r))`)
	for filter, values := range map[string][2]string{
		"client":   {paper.PC1Addr.String(), "203.0.113.0/24"},
		"protocol": {"tcp", "udp"},
		"bridge":   {"lan", ""},
	} {
		b.fill("#flows-"+filter, values[0])
		b.await(own + ".length > 0")
		if values[1] != "" {
			b.fill("#flows-"+filter, values[1])
			b.awaitText("#flows", "No flows.")
			b.awaitText("#flows-count", "0 flows")
		}
		b.fill("#flows-"+filter, "")
	}
	for _, segment := range []string{"a", "b"} {
		b.fill("#flows-segment", segment)
		b.await(fmt.Sprintf(`%s.every(r => r.includes("192.168.1.2:80 %s "))`, own, segment))
	}
	b.fill("#flows-segment", "")
	b.fill("#flows-client", "nobody")
	b.awaitText("#flows-count", "nobody")
	b.click("Flows of " + paper.PC1Addr.String())
	b.await(fmt.Sprintf(`document.querySelector("#flows-client").value === "%s" && document.activeElement.id === "flows-client" && %s.length > 0`, paper.PC1Addr, own))
	b.fill("#flows-client", "")
}

// The pointer shows a chart's values of its place, and takes them with it.
func dashboardPointsAtValues(t *testing.T, _ *scene, b *browser) {
	b.await(`(() => { document.querySelector("[aria-labelledby=segment-a] .plot").scrollIntoView({ block: "center" }); return true })()`)
	place := b.eval(`(r => [r.x + r.width - 4, r.y + r.height / 2])(document.querySelector("[aria-labelledby=segment-a] .plot").getBoundingClientRect())`).([]any)
	move := func(x, y any) {
		b.call("Input.dispatchMouseEvent", map[string]any{"type": "mouseMoved", "x": x, "y": y}, nil)
	}
	const shown = `document.querySelector("[aria-labelledby=segment-a] .values")`
	move(place[0], place[1])
	b.await(`!` + shown + `.hidden && /^\d\d:\d\d:\d\d · out of a .*bit\/s · into a .*bit\/s$/.test(` + shown + `.textContent)`)
	b.await(`(p => p.left >= 0 && p.right <= innerWidth)(` + shown + `.getBoundingClientRect())`)
	move(1, 1)
	b.await(shown + ".hidden")
}

func dashboardExplainsDrops(_ *testing.T, _ *scene, b *browser) {
	b.await(rowsOf("drops") + `.some(r => r.startsWith("port_not_open Its segment does not open this port"))`)
}

// A ban is set, and ended, from the list of clients and from that of bans. A gateway stays.
func dashboardBans(t *testing.T, s *scene, b *browser) {
	bans := func(n int) {
		t.Helper()
		s.waitFor(fmt.Sprintf("%d are banned", n), func() bool { return s.status().Bans == n })
	}
	b.click("Ban " + paper.PC1Addr.String())
	b.await(fmt.Sprintf(`document.querySelector("#confirm").open && document.querySelector("#confirm-network").value === "%s"`, paper.PC1Addr))
	b.eval(`document.querySelector("#confirm-yes").click()`)
	bans(1)
	b.click("Unban " + paper.PC1Addr.String() + "/32")
	bans(0)
	b.awaitText("#bans", "Nobody is banned.")

	b.click("Ban a client or a network")
	b.fill("#confirm-network", "203.0.113.0/24")
	b.fill("#confirm-for", "")
	b.fill("#confirm-bridge", "lan")
	b.eval(`document.querySelector("#confirm-yes").click()`)
	b.await(rowsOf("bans") + `.some(r => r.startsWith("203.0.113.0/24 lan unban"))`)
	b.click("Unban 203.0.113.0/24")
	bans(0)

	b.click("Ban a client or a network")
	b.fill("#confirm-network", paper.RouterAddr.String())
	b.eval(`document.querySelector("#confirm-yes").click()`)
	b.awaitText("#outcome", "gateway")
	bans(0)
	b.complaintsSoFar() // the console shows the refusal
}

// A capture is saved as a file with the packets that came while it ran.
func dashboardCaptures(t *testing.T, s *scene, b *browser) {
	folder := t.TempDir()
	b.call("Page.setDownloadBehavior", map[string]any{"behavior": "allow", "downloadPath": folder}, nil)
	b.click("Capture segment a")
	b.fill("#confirm-filter", "tcp port 80")
	b.fill("#confirm-duration", "5m")
	b.eval(`document.querySelector("#confirm-yes").click()`)
	b.await(`/, [1-9].* k?B/.test(document.querySelector(".capture")?.textContent)`) // the head of the file has come
	const size = `document.querySelector(".capture").textContent.match(/, (.*B)/)[1]`
	head := b.eval(size)
	s.run(s.PC1, "curl", "-sf", "http://192.168.1.2/")
	b.await(fmt.Sprintf("%s !== %q", size, head))
	b.click("Stop and save the capture of segment a")
	b.awaitText("#outcome", "a.pcapng is saved: ")
	name := filepath.Join(folder, "a.pcapng")
	s.waitFor("the capture is saved", func() bool {
		_, err := os.Stat(name)
		return err == nil
	})
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	packets := 0
	for {
		if _, _, err = reader.ReadPacketData(); err != nil {
			break
		}
		packets++
	}
	if want := fmt.Sprintf("a.pcapng is saved: %d packets.", packets); packets == 0 || b.eval(`document.querySelector("#outcome").textContent`) != want {
		t.Errorf("the file has %d packets (%v); the page says %v", packets, err, b.eval(`document.querySelector("#outcome").textContent`))
	}

	b.click("Capture bridge lan")
	b.fill("#confirm-filter", "no such filter")
	b.eval(`document.querySelector("#confirm-yes").click()`)
	b.awaitText("#outcome", "Capturing bridge lan: ")
	b.await(`document.querySelector(".capture") === null`)
	b.complaintsSoFar() // the console shows the refusal
}

// A page that was reloaded shows what was carried before.
func dashboardRemembers(t *testing.T, s *scene, b *browser) {
	ask := strings.TrimSpace(examples.Beginning(t, "docs/operating.md", "curl -f localhost:2019/vnic/history"))
	s.waitFor("the plane has noted what segment a carried", func() bool {
		s.get("http://192.168.1.2/")
		var h vnicbridge.History
		if err := json.Unmarshal([]byte(s.run(s.Server, "sh", "-euc", ask+" 2>/dev/null")), &h); err != nil {
			t.Fatal(err)
		}
		samples := h.Segments["a"]
		return len(samples) >= 2 && samples[0].Bytes != samples[len(samples)-1].Bytes
	})
	b.call("Page.reload", nil, nil)
	b.awaitText("#connection", "Live")
	// A chart of five minutes is 300 wide: one a second.
	b.await(`300 - document.querySelector("[aria-labelledby=bridge-lan] .line.first").getAttribute("d").slice(1).split(" ")[0] > performance.now() / 1000`)
	b.click("Charts show the last 1 h")
	b.await(`document.querySelector("[aria-labelledby=bridge-lan] .times").textContent.startsWith("1 h ago") && document.querySelector("[aria-labelledby=bridge-lan] .plot svg").getAttribute("aria-label").includes("last hour")`)
	b.click("Charts show the last 5 min")
}

// Of many segments there is a table, whose rows open their cards, and the picture has a line for
// each. It also shows a gateway that is silent, the version, and where the documentation is.
func TestDashboardOfMany(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	var segments, names strings.Builder
	for i := range 9 {
		fmt.Fprintf(&segments, "segment s%d {\naddress 192.168.%d.1/24\nports any\n}\n", i, 60+i)
		fmt.Fprintf(&names, " s%d", i)
	}
	config := func(gateway string) string {
		return fmt.Sprintf("{\nvnic {\n%sbridge lan {\nnic nic0\naddress 192.168.1.2/24\ngateway %s\nsteer s3 client 10.20.0.0/16\nlb_policy round_robin%s\n}\n}\n}\n", segments.String(), gateway, names.String())
	}
	if err := s.tryStart(config("192.168.1.1")); err != nil {
		t.Fatal(err)
	}
	b := s.newBrowser(s.Server)
	b.resize(1280, 900)
	if !b.open(s.serveDashboard()) {
		t.Fatal("the page does not open")
	}
	b.await(rowsOf("overview") + `.join().startsWith("s0 ✓ active 0 ")`)
	b.await(rowsOf("overview") + `.length === 9`)
	const cards = `[...document.querySelectorAll("#segments .card")].filter(c => c.checkVisibility()).length`
	if got := b.eval(cards); got != float64(0) {
		t.Errorf("beside the table there are %v cards", got)
	}
	if got := b.eval(`Number(document.querySelector("#topology svg").getAttribute("height"))`).(float64); got > 400 {
		t.Errorf("the picture of nine segments is %v px high", got)
	}
	for range 2 { // at each width
		b.click("Segment s3")
		b.await(cards + ` === 1 && document.querySelector('[aria-label="Segment s3"]').getAttribute("aria-expanded") === "true"`)
		b.click("Drain segment s3")
		b.await(rowsOf("overview") + `[3].startsWith("s3 ◐ draining")`)
		b.click("Activate segment s3")
		b.click("Segment s3")
		b.await(cards + " === 0")
		b.resize(390, 800)
		b.wantWidth(390)
	}
	b.click("Segments as cards")
	b.await(cards + ` === 9 && document.querySelector("#overview").hidden`)
	b.wantWidth(390)
	b.click("Segments as table")
	b.await(cards + " === 0")
	b.await(`document.querySelector(".steers").textContent.includes("steer s3 client 10.20.0.0/16")`)
	b.await(`document.querySelector("#version").textContent.length > 0 && document.querySelector("header a").href.endsWith("/docs/operating.md")`)

	s.loadText(config("192.168.1.250")) // where nobody is
	b.awaitText("#bridges", "✕ gateway silent")
	if complaints := b.complaintsSoFar(); len(complaints) > 0 {
		t.Errorf("on the console: %s", strings.Join(complaints, "\n"))
	}
}
