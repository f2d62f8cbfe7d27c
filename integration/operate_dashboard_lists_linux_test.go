package integration_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row N12: the dashboard shows the host names of the steer rules, and how many flows each has chosen
// the segment of. Of a segment with limits it shows these, the rate too, and that the segment is at
// a limit; the client that is at a limit is the first of the top clients.
func TestDashboardOfNamesAndLimits(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		config := caddyfile{
			datapath: datapath,
			b:        "ports any\nlimit rate 8Mbit/s\nlimit flows_per_client 10",
			policy:   "steer a name a.example.com *.a.example.com\nsteer b name bücher.example\nlb_policy first b",
			sites:    "http:// {\n\tbind vnic/a\n\trespond a\n}\nhttp:// {\n\tbind vnic/b\n\trespond b\n}\n",
		}
		s.start(config)
		s.listen(s.Server, "192.168.60.1:9000", func(conn net.Conn) { io.Copy(io.Discard, conn) })
		for host, want := range map[string]string{"a.example.com": "a", "www.a.example.com": "a", "xn--bcher-kva.example": "b", "other.example.com": "b"} {
			if got := s.askFor("192.168.1.2", "http://"+host+"/"); got != want {
				t.Errorf("%s: got %q, want %q", host, got, want)
			}
		}
		defer s.holdConnections(s.Neighbours[0], "192.168.1.2:9000", 20)() // and it goes on trying

		b := s.newBrowser(s.Server)
		b.resize(1180, 900)
		if !b.open(s.serveDashboard()) {
			t.Fatal("the page does not open")
		}
		b.awaitText("#connection", "Live")
		rows := func(table string) string {
			return `[...document.querySelectorAll("#` + table + ` tbody tr")].map(r => [...r.cells].map(c => c.textContent).join(" "))`
		}
		for _, row := range []string{"a.example.com lan a 2 ", "xn--bcher-kva.example lan b 1 ", "no such name lan  1 "} {
			b.await(rows("names") + `.some(r => r.startsWith("` + row + `"))`)
		}
		b.await(`/at most 8 Mbit\/s each way, 10 flows of a client \([1-9]\d* refused\)/.test(document.querySelector("[aria-labelledby=segment-b] .facts").textContent)`)
		b.await(`document.querySelector("[aria-labelledby=segment-a] .facts").textContent.includes("at most") === false`)
		b.await(rows("clients") + `[0].startsWith("192.168.1.11 b ")`)
		b.resize(320, 780)
		b.wantWidth(320)

		s.loadText(strings.Replace(config.String(), config.policy, "lb_policy first b", 1))
		b.await(`document.querySelector("#names").parentElement.hidden`)
		if complaints := b.complaintsSoFar(); len(complaints) > 0 {
			t.Errorf("on the console: %s", strings.Join(complaints, "\n"))
		}
	})
}
