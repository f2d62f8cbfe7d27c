package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// A department's dashboard, which its user serves without any privilege, shows and operates its
// segment. Nothing of the other department is on the page, and it does not fill Caddy's log.
func TestDashboardOfARole(t *testing.T) {
	t.Parallel()
	s := newRoles(t, "auto")
	d := s.department("alpha", 61001)
	d.fetches(s.PC1, "alpha.example")
	d.fetches(s.PC1, "bravo.example")
	cmd := exec.Command("setpriv", "--reuid", fmt.Sprint(d.uid), "--regid", fmt.Sprint(d.uid), "--clear-groups", "--bounding-set", "-all", "--no-new-privs",
		d.program, "vnic", "dashboard", "--address", "unix/"+d.socket)
	cmd.Env = append(os.Environ(), asCaddy, "HOME=/")
	_, url := s.startDashboard(s.Server, cmd)
	b := s.newBrowser(s.Server)
	b.resize(1180, 900)
	if !b.open(url) {
		t.Fatal("the page does not open")
	}
	b.awaitText("#connection", "Live")
	b.awaitText("#devices-title", "Segment alpha")
	b.await(`document.querySelector("#bridges").hidden`)
	b.awaitText("#topology", "192.168.1.2/24")
	b.awaitText("#flows", "192.168.1.2:80")
	b.click("Drain segment alpha")
	s.waitFor("alpha drains", func() bool { return s.now().Segments["alpha"].State == config.Draining })
	b.click("Activate segment alpha")
	s.waitFor("alpha is active", func() bool { return s.now().Segments["alpha"].State == config.Active })
	b.click("Ban a client or a network")
	b.fill("#confirm-network", "203.0.113.0/24")
	b.eval(`document.querySelector("#confirm-yes").click()`)
	b.await(rowsOf("bans") + `.some(r => r.startsWith("203.0.113.0/24 segment alpha"))`)
	b.click("Unban 203.0.113.0/24")
	b.awaitText("#bans", "Nobody is banned.")
	b.await(`performance.getEntriesByType("resource").filter(e => e.name.includes("/vnic/")).length > 20`)
	if got := b.eval(`document.documentElement.innerHTML.includes("bravo")`); got != false {
		t.Error("the page has the name of the other department")
	}
	if complaints := b.complaintsSoFar(); len(complaints) > 0 {
		t.Errorf("on the console: %s", strings.Join(complaints, "\n"))
	}
	if lines := s.adminLines("/vnic/events"); len(lines) > 0 {
		t.Errorf("a look is logged:\n%s", strings.Join(lines, "\n"))
	}
}
