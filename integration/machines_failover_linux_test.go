package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/adminclient"
	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

const twoServers = "docs/two-servers.md"

// twin is one of two machines that have one address by turns.
type twin struct {
	s          *scene
	host       *netlab.Host
	name, dir  string
	caddy      *netlab.Caddy
	keepalived *netlab.Process
	starts     int
	program    string   // that is Caddy; default: this one
	env        []string // of Caddy, in addition to that of every machine
	servers    []net.PacketConn
	serving    sync.WaitGroup
}

// pair is two such machines on the paper's link, and clients on the link and beyond the router.
type pair struct {
	*scene
	datapath string
	machines [2]*twin
	client   *netlab.Host
}

// newPair starts both programs on both machines with the example of the page, and waits until one has
// the address.
func newPair(t *testing.T, datapath string) *pair {
	t.Helper()
	p := newMachines(t, datapath)
	p.startBoth(p.start)
	return p
}

// newMachines makes two machines on which nothing runs.
func newMachines(t *testing.T, datapath string) *pair {
	t.Helper()
	s := newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: 3})
	p := &pair{scene: s, datapath: datapath, client: s.Neighbours[2]}
	for i := range p.machines {
		m := &twin{s: s, host: s.Neighbours[i], name: fmt.Sprint(i + 1), dir: filepath.Join(s.dir, fmt.Sprint(i+1))}
		if err := os.MkdirAll(m.path("run"), 0o755); err != nil {
			t.Fatal(err)
		}
		p.machines[i] = m
		t.Cleanup(func() {
			if t.Failed() && m.caddy != nil {
				log, _ := os.ReadFile(m.path("keepalived.log"))
				t.Logf("machine %s: Caddy's log ends so:\n%s\nkeepalived's:\n%s", m.name, m.caddy.Log(25), log[max(0, len(log)-3000):])
			}
			m.killElector() // one of its processes outlives the other
		})
	}
	return p
}

// startBoth starts both programs on both machines, and waits until one has the address.
func (p *pair) startBoth(start func(*twin)) {
	p.t.Helper()
	for _, m := range p.machines {
		start(m)
		m.elect()
	}
	p.waitFor("one of the machines has the address", func() bool { return p.active() != nil && p.standby() != nil })
	p.waitFor("the machine that stands by is fit", func() bool { return p.standby().failover().Fit })
}

// start starts a machine's Caddy, and its server of datagrams.
func (p *pair) start(m *twin) {
	p.t.Helper()
	m.start(p.caddyfile(m))
	m.answerDatagrams()
}

// caddyfile returns the page's Caddyfile with what differs on a machine of the scene.
func (p *pair) caddyfile(m *twin) string {
	p.t.Helper()
	return p.replaced(twoServers, examples.Beginning(p.t, twoServers, "{\n\tvnic {"), append(p.ownNames(m), [2]string{"client_ip preserve", "client_ip preserve\nports any"}))
}

// ownNames are what differs on a machine of the scene from each Caddyfile of the page.
func (p *pair) ownNames(m *twin) [][2]string {
	return [][2]string{
		{"nic eth1", "nic eth0"},
		{"failover keepalived VI_lan", fmt.Sprintf("failover keepalived VI_lan {\nfifo %s\ntrack %s\n}", m.path("run/vrrp"), m.path("run/lan"))},
		{"\tvnic {", "\tvnic {\ndatapath " + p.datapath},
	}
}

func (m *twin) path(name string) string { return filepath.Join(m.dir, name) }

func (m *twin) write(name, content string) string {
	m.s.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(content), 0o644); err != nil {
		m.s.t.Fatal(err)
	}
	return m.path(name)
}

// start starts Caddy.
func (m *twin) start(config string) {
	m.s.t.Helper()
	m.startFile(m.write("Caddyfile", config))
}

func (m *twin) startFile(config string) {
	m.s.t.Helper()
	m.starts++
	caddy, err := m.host.StartCaddy(m.s.t.Context(), netlab.CaddyOptions{
		Program: m.program, Config: config, Log: m.path(fmt.Sprintf("caddy-%d.log", m.starts)), State: m.dir, Env: m.environment(),
	})
	if err != nil {
		m.s.t.Fatal(err)
	}
	m.caddy = caddy
}

func (m *twin) environment() []string {
	return append([]string{asCaddy, "MACHINE=" + m.name, "VNIC_KEY=00112233445566778899aabbccddeeff"}, m.env...)
}

// answerDatagrams starts a server that says in each datagram which machine it is on, when Caddy has
// started.
func (m *twin) answerDatagrams() {
	m.s.t.Helper()
	for _, before := range m.servers {
		_ = before.Close()
	}
	m.serving.Wait() // a socket is bound until its reader has left
	m.servers = nil
	for _, address := range []string{"192.168.50.1:9000", "[fd00:50::1]:9000"} {
		server := m.s.packetConn(m.host, address)
		m.servers = append(m.servers, server)
		m.serving.Go(func() {
			buffer := make([]byte, 64)
			for {
				n, from, err := server.ReadFrom(buffer)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				_, _ = server.WriteTo(append([]byte(m.name), buffer[:n]...), from)
			}
		})
	}
}

// elect starts keepalived with the configuration of its version.
func (m *twin) elect() {
	m.s.t.Helper()
	version, err := exec.Command("keepalived", "--version").CombinedOutput()
	if err != nil {
		m.s.t.Fatalf("%v: the test needs keepalived", err)
	}
	packaged := "keepalived.conf"
	if regexp.MustCompile(`v2\.(0|1|2\.[0-7])\b`).Match(version) {
		packaged = "keepalived-2.2.7.conf"
	}
	config, err := os.ReadFile(filepath.Join("..", "packaging", "keepalived", packaged))
	if err != nil {
		m.s.t.Fatal(err)
	}
	text := strings.NewReplacer("/run/caddy-vnic", m.path("run"), "interface eth1", "interface eth0").Replace(string(config))
	log, err := os.OpenFile(m.path("keepalived.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		m.s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "-f", m.write("keepalived.conf", text),
		"-p", m.path("keepalived.pid"), "-r", m.path("vrrp.pid"))
	cmd.Stdout, cmd.Stderr = log, log
	if m.keepalived, err = m.host.Start(cmd); err != nil {
		m.s.t.Fatal(err)
	}
}

// killElector kills keepalived, which is two processes.
func (m *twin) killElector() {
	for _, file := range []string{"keepalived.pid", "vrrp.pid"} {
		text, err := os.ReadFile(m.path(file))
		if err != nil {
			continue // it has ended in order
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			m.s.t.Error(err)
			continue
		}
		if program, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || !bytes.Contains(program, []byte(m.dir)) {
			continue // the number is another's by now
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			m.s.t.Error(err)
		}
		_ = os.Remove(m.path(file))
	}
}

// afterStop does what systemd does when Caddy has ended, however it did: the drop-in's ExecStopPost.
func (m *twin) afterStop() {
	m.s.t.Helper()
	dropIn, err := os.ReadFile("../packaging/keepalived/caddy.service.d/keepalived.conf")
	if err != nil {
		m.s.t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^ExecStopPost=/bin/sh -c '(.*)'$`).FindSubmatch(dropIn)
	if command == nil {
		m.s.t.Fatal("the drop-in has no ExecStopPost")
	}
	m.s.run(m.host, "/bin/sh", "-c", strings.ReplaceAll(string(command[1]), "/run/caddy-vnic", m.path("run")))
}

func (m *twin) status() (status vnicbridge.Status) {
	m.s.t.Helper()
	body, err := fetch(adminclient.Of(m.host.HTTPClient()), "http://localhost:2019/vnic/status")
	if err == nil {
		err = json.Unmarshal([]byte(body), &status)
	}
	if err != nil {
		m.s.t.Fatal(err)
	}
	return status
}

func (m *twin) failover() vnicbridge.FailoverStatus {
	m.s.t.Helper()
	f := m.status().Bridges["lan"].Failover
	if f == nil {
		m.s.t.Fatalf("machine %s does not fail over", m.name)
	}
	return *f
}

// vnic runs a command of the page.
func (m *twin) vnic(words string) string {
	m.s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		m.s.t.Fatal(err)
	}
	command := strings.TrimPrefix(strings.TrimSpace(words), "caddy ")
	return m.s.run(m.host, "env", append([]string{asCaddy, self}, strings.Fields(command)...)...)
}

// active is the machine that has the address, and standby the other one; nil if not exactly one has.
func (p *pair) active() *twin {
	p.t.Helper()
	one, two := p.machines[0], p.machines[1]
	first, second := one.failover().State != vnicbridge.BridgeStandsBy, two.failover().State != vnicbridge.BridgeStandsBy
	switch {
	case first && !second:
		return one
	case second && !first:
		return two
	}
	return nil
}

func (p *pair) standby() *twin {
	p.t.Helper()
	return p.other(p.active())
}

func (p *pair) other(m *twin) *twin {
	for _, other := range p.machines {
		if m != nil && other != m {
			return other
		}
	}
	return nil
}

// heartbeat is a client that sends a datagram each millisecond, and records when answers come, and
// from which machine.
type heartbeat struct {
	conn  net.Conn
	done  chan struct{}
	ended sync.WaitGroup
	mu    sync.Mutex
	last  time.Time
	by    string
	gap   time.Duration // the longest time between two answers
}

func (p *pair) startHeartbeat(from *netlab.Host, to string) *heartbeat {
	p.t.Helper()
	conn, err := from.DialContext(p.t.Context(), "udp", to)
	if err != nil {
		p.t.Fatal(err)
	}
	h := &heartbeat{conn: conn, done: make(chan struct{})}
	h.ended.Go(h.send)
	h.ended.Go(h.receive)
	p.t.Cleanup(h.end)
	p.waitFor(to+" answers", func() bool { return h.from() != "" })
	return h
}

func (h *heartbeat) end() {
	select {
	case <-h.done:
		return
	default:
	}
	close(h.done)
	_ = h.conn.Close()
	h.ended.Wait()
}

func (h *heartbeat) send() {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-h.done:
			return
		case <-ticker.C:
			_, _ = h.conn.Write([]byte("?")) // an ICMP error of a moment ago comes back here
		}
	}
}

func (h *heartbeat) receive() {
	buffer := make([]byte, 64)
	for {
		n, err := h.conn.Read(buffer)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return
		}
		if err != nil || n < 1 {
			continue
		}
		h.mu.Lock()
		now := time.Now()
		if !h.last.IsZero() {
			h.gap = max(h.gap, now.Sub(h.last))
		}
		h.last, h.by = now, string(buffer[:1])
		h.mu.Unlock()
	}
}

// from is the machine of the last answer.
func (h *heartbeat) from() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.by
}

// longest returns the longest gap since the last call.
func (h *heartbeat) longest() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	gap := h.gap
	h.gap = 0
	return gap
}

// Rows H1 to H4: whatever ends on the machine that has the address, the other one takes over, at once,
// and clients on the link and beyond the router go on. The page has the times.
func TestFailover(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		p := newPair(t, datapath)
		beats := map[string]*heartbeat{
			"on the link": p.startHeartbeat(p.client, "192.168.1.2:9000"), "on the link, IPv6": p.startHeartbeat(p.client, "[2001:db8:1::2]:9000"),
			"beyond the router": p.startHeartbeat(p.PC1, "192.168.1.2:9000"), "beyond the router, IPv6": p.startHeartbeat(p.PC1, "[2001:db8:1::2]:9000"),
		}
		const skew = (256 - 100) * 100 * time.Millisecond / 256
		for _, step := range []struct {
			what  string
			timer time.Duration // VRRP's
			fail  func(m *twin)
			mend  func(m *twin)
		}{
			{"drain", skew, func(m *twin) { m.vnic(examples.Beginning(t, twoServers, "caddy vnic drain")) },
				func(m *twin) { m.vnic(examples.Beginning(t, twoServers, "caddy vnic activate")) }},
			{"Caddy stops", skew, func(m *twin) { m.stopCaddy() }, func(m *twin) { p.start(m) }},
			{"kill -9 of Caddy", skew, func(m *twin) { m.killCaddy(); m.afterStop() }, func(m *twin) { p.start(m) }},
			{"keepalived stops", skew, func(m *twin) { m.stopElector() }, func(m *twin) { m.elect() }},
			{"kill -9 of keepalived", 300*time.Millisecond + skew, func(m *twin) { m.killElector() }, func(m *twin) { m.elect() }},
		} {
			// A kernel ignores an announcement within a second of the one before (its locktime), as
			// when both machines start at once.
			time.Sleep(1200 * time.Millisecond)
			before := p.active()
			if before == nil {
				t.Fatalf("before %q no machine, or both, have the address", step.what)
			}
			after := p.other(before)
			p.waitFor("the other machine is fit", func() bool { return after.failover().Fit })
			for _, beat := range beats {
				beat.longest()
			}
			step.fail(before)
			for who, beat := range beats {
				p.waitFor(step.what+": the other machine answers "+who, func() bool { return beat.from() == after.name })
			}
			var gaps []string
			for who, beat := range beats {
				gaps = append(gaps, fmt.Sprintf("%s %d ms", who, beat.longest().Milliseconds()))
			}
			t.Logf("%s: VRRP's timers take %d ms; no answer %s", step.what, step.timer.Milliseconds(), strings.Join(gaps, ", "))
			if got := p.getFrom(p.client, "http://192.168.1.2/"); got != "machine "+after.name {
				t.Errorf("%s: the site says %q", step.what, got)
			}
			step.mend(before)
			p.waitFor("the machine stands by", func() bool {
				f := before.failover()
				return f.State == vnicbridge.BridgeStandsBy && f.Fit && f.Says == "BACKUP"
			})
			if p.active() != after {
				t.Errorf("%s: a machine that is back takes the address", step.what)
			}
		}
	})
}

func (m *twin) stopCaddy() {
	m.s.t.Helper()
	if err := m.caddy.Stop(); err != nil {
		m.s.t.Fatal(err)
	}
}

func (m *twin) killCaddy() {
	m.s.t.Helper()
	if err := m.caddy.Process().Signal(unix.SIGKILL); err != nil {
		m.s.t.Fatal(err)
	}
	<-m.caddy.Process().Done()
}

func (m *twin) stopElector() {
	m.s.t.Helper()
	if err := m.keepalived.Stop(); err != nil {
		m.s.t.Fatal(err)
	}
}

// Row H2: the machine that stands by sends nothing about the addresses, whoever asks it, and whatever
// comes to it.
func TestStandbyMachineIsSilent(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		p := newPair(t, datapath)
		m := p.standby()
		device := m.host.Netlink()
		link, err := device.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		mac := link.Attrs().HardwareAddr
		sent := p.capture(m.host, "eth0")
		// The client believes that the machine has the addresses, as one with an old neighbour would.
		for _, address := range []string{"192.168.1.2", "2001:db8:1::2"} {
			p.ip(p.client, fmt.Sprintf("neighbour replace %s lladdr %s dev eth0 nud permanent", address, mac))
		}
		for _, address := range []string{"192.168.1.2:80", "[2001:db8:1::2]:80", "192.168.1.2:81"} {
			if got, err := hear(p.client, address, 300*time.Millisecond); err == nil || errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%s answers %q (%v)", address, got, err)
			}
		}
		if _, err := p.client.Run(t.Context(), "ping", "-c", "1", "-W", "1", "192.168.1.2"); err == nil {
			t.Error("the machine answers a ping")
		}
		p.waitFor("what belongs to no flow is dropped", func() bool { return m.status().Bridges["lan"].Drops["standby"] > 0 })
		four, six := netip.MustParseAddr("192.168.1.2").As4(), netip.MustParseAddr("2001:db8:1::2").As16()
		for _, f := range p.frames(sent) {
			if f.Outgoing && (bytes.Contains(f.Data, four[:]) || bytes.Contains(f.Data, six[:])) {
				t.Errorf("the machine sent %x", f.Data)
			}
		}
	})
}

// Row H5: if the machines do not hear each other, both have the address and see that. When they hear
// each other again, one of them stands by, and clients find the other.
func TestSplitBrain(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		p := newPair(t, datapath)
		for _, m := range p.machines {
			p.run(m.host, "nft", "add table inet split; add chain inet split in { type filter hook input priority 0; }; add rule inet split in meta l4proto 112 drop")
		}
		p.waitFor("both machines have the address", func() bool {
			return p.machines[0].failover().State == vnicbridge.BridgeIsActive && p.machines[1].failover().State == vnicbridge.BridgeIsActive
		})
		p.waitFor("a machine has seen the other", func() bool {
			return p.machines[0].status().Bridges["lan"].Conflicts+p.machines[1].status().Bridges["lan"].Conflicts > 0
		})
		for _, m := range p.machines {
			p.run(m.host, "nft", "delete table inet split")
		}
		p.waitFor("one of the machines stands by", func() bool { return p.active() != nil })
		active := p.active()
		p.waitFor("clients find the other", func() bool {
			got, err := fetch(p.client.HTTPClient(), "http://[2001:db8:1::2]/")
			if err != nil || got != "machine "+active.name {
				return false
			}
			got, err = fetch(p.PC1.HTTPClient(), "http://192.168.1.2/")
			return err == nil && got == "machine "+active.name
		})
	})
}

// Row R6: an upgrade leaves the addresses where they are, and the new process hears what keepalived says.
func TestUpgradeWithFailover(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		p := newPair(t, datapath)
		active, standby := p.active(), p.standby()
		since := func() string { return fmt.Sprint(active.failover().Since, standby.failover().Since) }
		before := since()
		for _, m := range []*twin{active, standby, active} {
			m.upgrade()
			if now := since(); p.active() != active || now != before {
				t.Errorf("an upgrade of machine %s changes who has the addresses: since %s, before %s", m.name, now, before)
			}
		}
		active.stopElector()
		p.waitFor("the other machine has the addresses", func() bool { return p.active() == standby })
		p.waitFor("its site answers", func() bool {
			page, err := fetch(p.client.HTTPClient(), "http://192.168.1.2/")
			return err == nil && page == "machine "+standby.name
		})
	})
}

func (m *twin) upgrade() {
	m.s.t.Helper()
	followUpgrade(m.s.t, m.caddy, func() string { return m.vnic("caddy vnic upgrade") })
}
