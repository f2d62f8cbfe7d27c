package integration_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

const troubleshootingPage = "docs/troubleshooting.md"

// Clients get no answer, for each reason that docs/troubleshooting.md names. What the page
// says to look at shows the reason, and what it says to do helps. One Caddy for all of it.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	s := &troubled{scene: newScene(t, paper.NetworkOptions{IPv6: true})}
	s.nicIsEth1()
	s.right = caddyfile{nic: "eth1", a: "ports any"}
	wrong := strings.Replace(s.right.String(), "192.168.1.2/24", "192.168.1.99/24", 1)
	if err := s.tryStart(wrong); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		symptom string
		test    func(*troubled, examples.Symptom)
	}{
		{"nobody on the link resolves the address", (*troubled).notResolved}, // mends the address
		{"no answer at all", (*troubled).noAnswer},
		{"in a virtual machine", (*troubled).hypervisor},
		{"connection refused", (*troubled).refused},
		{"ping answers, the site does not", (*troubled).onlyPing},
		{"one segment gets no new clients", (*troubled).unhealthy},
		{"IPv6 clients are refused, and IPv4 clients are not", (*troubled).oneFamily},
		{"hosts on the link work, others do not", (*troubled).noGateway},
		{"the host itself cannot reach the pseudo address", (*troubled).fromTheHost},
		{"new connections fail under load", (*troubled).fullTable},
		{"a segment cannot reach the Internet", (*troubled).noEgress},
		{"is good for one browser, once", (*troubled).spentAddress},
		{"requests for another host are refused", (*troubled).otherHost},
		{"want a loopback address", (*troubled).publicDashboard},
		{"the running configuration has no vnic app", (*troubled).noApp},
	} {
		mended := t.Run(step.symptom, func(t *testing.T) {
			here := *s.scene
			here.t = t
			step.test(&troubled{&here, s.right}, examples.SymptomOf(t, troubleshootingPage, step.symptom))
		})
		if !mended {
			return
		}
	}
}

// troubled is a scene where something is wrong.
type troubled struct {
	*scene
	right caddyfile // nothing is wrong with it
}

func (s *troubled) notResolved(symptom examples.Symptom) {
	ask := func() { s.PC1.Run(s.t.Context(), "ping", "-c", "1", "-W", "1", "192.168.1.2") }
	seen := s.watch(symptom.Look[0], ask, "Request who-has 192.168.1.2")
	if strings.Contains(seen, "192.168.1.2 is-at") {
		s.t.Errorf("there is a reply from the wrong address:\n%s", seen)
	}
	s.load(s.right)
	s.wantService()
	s.ip(s.Router, "neighbour flush dev "+paper.RouterWANDevice)
	s.watch(symptom.Look[0], ask, "192.168.1.2 is-at")
}

func (s *troubled) noAnswer(symptom examples.Symptom) {
	s.ip(s.Server, "link set eth1 down")
	s.waitFor("the status says that the link is down", func() bool {
		return regexp.MustCompile(`lan +eth1 +down`).MatchString(s.shell(symptom.Look[0]))
	})
	s.shell(symptom.Fix[0])
	s.wantService()
	wrong := strings.Replace(s.right.String(), "gateway 192.168.1.1", "gateway 192.168.1.77", 1)
	s.reloadText(wrong)
	wantAll(s.t, "the status", s.shell(symptom.Look[0]), []string{"192.168.1.77 (not resolved)"})
	s.load(s.right)
	s.waitFor("the gateway is resolved", func() bool {
		return strings.Contains(s.shell(symptom.Look[0]), "192.168.1.1 ("+paper.RouterMAC.String()+")")
	})
}

// The router stands for a hypervisor that passes ARP alone.
func (s *troubled) hypervisor(symptom examples.Symptom) {
	s.run(s.Router, "nft", "add table ip hypervisor; add chain ip hypervisor out { type filter hook postrouting priority 0; }; add rule ip hypervisor out ip daddr 192.168.1.2 drop")
	s.ip(s.Router, "neighbour flush dev "+paper.RouterWANDevice)
	s.wantCaptured("nothing", nil, s.wantSilence)
	seen := s.watch(symptom.Look[0], s.wantSilence, "")
	if strings.Contains(seen, "IPv4") {
		s.t.Errorf("what is dropped on the way comes:\n%s", seen)
	}
	s.run(s.Router, "nft", "delete table ip hypervisor")
	s.watch(symptom.Look[0], func() { s.get("http://192.168.1.2/") }, "192.168.10.2")
}

func (s *troubled) refused(symptom examples.Symptom) {
	closed := s.right
	closed.a = ""
	s.load(closed)
	s.listen(s.Server, "192.168.50.1:9000", say("nine"))
	s.wantCaptured("the client's packets on the NIC, and nothing on the VNIC", []string{"eth1 in", "eth1 out"}, func() { s.wantRefused("192.168.1.2:9000") })
	wantAll(s.t, "the status", s.shell(symptom.Look[0]), append(symptom.Look[1:2], "tcp/80"))
	opened := closed
	opened.a = symptom.Fix[1] + " tcp/9000"
	s.load(opened)
	if said, err := hear(s.PC1, "192.168.1.2:9000", 5*time.Second); said != "nine" {
		s.t.Errorf("with %s port 9000 says %q (%v)", opened.a, said, err)
	}
	s.load(s.right)
}

func (s *troubled) onlyPing(symptom examples.Symptom) {
	s.listen(s.Server, "127.0.0.1:8080", say("the wrong address"))
	s.run(s.PC1, "ping", "-c", "1", "-W", "5", "192.168.1.2")
	s.wantRefused("192.168.1.2:8080")
	wantAll(s.t, symptom.Look[0], s.shell(symptom.Look[0]), []string{"127.0.0.1:8080"})
	s.listen(s.Server, "192.168.50.1:8080", say("the right one"))
	s.run(s.Server, "nft", "add table inet strict; add chain inet strict in { type filter hook input priority 0; policy drop; }; add rule inet strict in iif lo accept")
	s.wantCaptured("the client's packets on the VNIC too, and no answer", []string{"eth1 in", "vnic-A in"}, s.wantSilence)
	s.run(s.Server, "nft", "delete table inet strict")
	if said, err := hear(s.PC1, "192.168.1.2:8080", 5*time.Second); said != "the right one" {
		s.t.Errorf("port 8080 says %q (%v)", said, err)
	}
}

func (s *troubled) unhealthy(symptom examples.Symptom) {
	checked := s.right
	checked.b = "health tcp/81 {\ninterval 100ms\nfails 1\n}"
	checked.policy = "lb_policy first b a"
	s.load(checked)
	s.waitFor("the check fails", func() bool { return !s.health("b").Healthy })
	wantAll(s.t, "the status", s.shell(symptom.Look[0]), []string{"UNHEALTHY", "connection refused"})
	if got := s.get("http://192.168.1.2/"); got != "a" {
		s.t.Errorf("while b is unhealthy PC1 got %q", got)
	}
	s.listen(s.Server, "192.168.60.1:81", say(""))
	s.waitFor("b gets new clients", func() bool { return s.get("http://192.168.1.2/") == "b" })
	s.load(s.right)
}

func (s *troubled) oneFamily(symptom examples.Symptom) {
	both := s.right
	both.families = "46"
	s.loadText(strings.NewReplacer(" fd00:50::1/64", "", " fd00:60::1/64", "").Replace(both.String()))
	s.waitFor("the router can resolve the pseudo address", func() bool {
		_, err := hear(s.PC1, pseudo6+":80", time.Second)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	s.wantService()
	status := s.shell(symptom.Look[0])
	wantAll(s.t, "the status", status, symptom.Look[1:])
	if !regexp.MustCompile(`(?m)^lan +IPv4 +a\nlan +IPv6 +-$`).MatchString(status) {
		s.t.Errorf("the status does not say that IPv6 has no segment:\n%s", status)
	}
	s.load(both)
	s.waitFor("a gets IPv6 clients", func() bool {
		got, _ := fetch(s.PC1.HTTPClient(), "http://"+pseudo6+"/")
		return got == "a"
	})
	s.load(s.right)
}

func (s *troubled) noGateway(symptom examples.Symptom) {
	s.reloadText(strings.Replace(s.right.String(), "gateway 192.168.1.1", "", 1))
	if got := s.getFrom(s.Router, "http://192.168.1.2/"); got != "a" {
		s.t.Errorf("a host on the link got %q", got)
	}
	s.wantCaptured("answers on the VNIC alone", []string{"eth1 in", "vnic-A in", "vnic-A out"}, s.wantSilence)
	if symptom.Look[0] != "gateway" {
		s.t.Errorf("the page looks at %s", symptom.Look)
	}
	s.load(s.right)
	s.wantCaptured("answers on the NIC too", []string{"eth1 in", "vnic-A in", "vnic-A out", "eth1 out"}, s.wantService)
}

func (s *troubled) fromTheHost(examples.Symptom) {
	if said, err := hear(s.Server, "192.168.1.2:9000", 300*time.Millisecond); err == nil {
		s.t.Errorf("the host itself hears %q", said)
	}
	if got := s.getFrom(s.Server, "http://192.168.50.1/"); got != "a" {
		s.t.Errorf("by the segment's address the host gets %q", got)
	}
}

// A table with room for one flow has none while that one is kept busy.
func (s *troubled) fullTable(symptom examples.Symptom) {
	s.listen(s.Server, "192.168.50.1:9001", func(conn net.Conn) { io.Copy(conn, conn) })
	s.listen(s.Server, "192.168.50.1:9002", say("room"))
	s.reloadText(strings.Replace(s.right.String(), "datapath auto", "datapath auto\n"+symptom.Fix[0]+" 1", 1))
	session := s.openSession("192.168.1.2:9001")
	if said, err := hear(s.PC1, "192.168.1.2:9002", 300*time.Millisecond); err == nil {
		s.t.Errorf("a second flow hears %q", said)
	}
	wantAll(s.t, "the status", s.shell("caddy vnic status"), symptom.Look[:1])
	s.load(s.right)
	if said, err := hear(s.PC1, "192.168.1.2:9002", 5*time.Second); said != "room" {
		s.t.Errorf("with room for it the second flow hears %q (%v)", said, err)
	}
	session.want("the full table")
}

func (s *troubled) noEgress(symptom examples.Symptom) {
	s.listen(s.PC1, "192.168.10.2:7000", say("the Internet"))
	call := func() string {
		said, _ := s.Server.Run(s.t.Context(), "curl", "-s", "--http0.9", "--max-time", "0.5", "--interface", "192.168.50.1", "http://192.168.10.2:7000/")
		return string(said)
	}
	said := call()
	s.ip(s.Server, "route add 192.168.10.2 via 192.168.50.2 dev vnic-A") // by the gateway's alias
	if said += call(); said != "" {
		s.t.Errorf("by default the segment hears %q", said)
	}
	s.ip(s.Server, "route delete 192.168.10.2")
	wantAll(s.t, "the status", s.shell(symptom.Look[0]), append(symptom.Look[1:], "  gateway  "))
	out := s.right
	out.a += "\n" + symptom.Fix[0]
	s.load(out)
	s.waitFor("the segment reaches the Internet", func() bool { return call() == "the Internet" })
	s.load(s.right)
}

// wantSilence checks that PC1 gets no answer, not even a refusal.
func (s *troubled) wantSilence() {
	s.t.Helper()
	_, err := hear(s.PC1, "192.168.1.2:80", 300*time.Millisecond)
	if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
		s.t.Errorf("PC1 gets %v, want no answer", err)
	}
}

// reloadText has Caddy load a Caddyfile as it stands.
func (s *troubled) reloadText(text string) {
	s.t.Helper()
	s.write("Caddyfile", text)
	if err := s.caddy.Reload(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// watch runs a command of a page, tcpdump, on the server while something is done, until
// it shows a text, and returns what it has shown.
func (s *troubled) watch(command string, do func(), until string) string {
	s.t.Helper()
	file := s.write("seen", "")
	cmd := exec.Command("sh", "-c", strings.Replace(command, "tcpdump ", "exec tcpdump -l ", 1)+" >"+file+" 2>&1")
	process, err := s.Server.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	seen := func() string {
		text, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		return string(text)
	}
	s.waitFor("tcpdump listens", func() bool { return strings.Contains(seen(), "listening on eth1") })
	do()
	s.waitFor(fmt.Sprintf("tcpdump shows %q", until), func() bool { return strings.Contains(seen(), until) })
	if err := process.Signal(unix.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	process.Wait()
	return seen()
}

// wantCaptured does something while a capture of the page's runs, and checks that
// packets of PC1's are where a row of the page's table says.
func (s *troubled) wantCaptured(row string, want []string, do func()) {
	s.t.Helper()
	if !slices.ContainsFunc(examples.Table(s.t, troubleshootingPage, "Where packets stop"), func(cells []string) bool { return cells[0] == row }) {
		s.t.Errorf("the page has no row %q", row)
	}
	words := strings.Fields(examples.Inline(s.t, troubleshootingPage, "caddy vnic capture lan -w lan.pcapng --client "))
	file := filepath.Join(s.t.TempDir(), words[5])
	capture := s.startCapture(file, words[3], words[6], paper.PC1Addr.String())
	do()
	var got []string
	look := func() bool { got = s.captured(file); return len(got) >= len(want) }
	s.waitFor("the packets are in the file", look)
	capture.finish()
	look()
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		s.t.Errorf("packets are captured on %q, want %q", got, want)
	}
}

// captured are the devices in a capture, and the directions there.
func (s *troubled) captured(file string) (sides []string) {
	s.t.Helper()
	direction := map[string]string{"0x00000001": " in", "0x00000002": " out"}
	for _, line := range s.tshark(file, "frame.interface_name", "frame.packet_flags") {
		device, flags, _ := strings.Cut(strings.TrimSpace(line), " ")
		if side := device + direction[flags]; !slices.Contains(sides, side) {
			sides = append(sides, side)
		}
	}
	return sides
}
