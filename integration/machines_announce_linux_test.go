package integration_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

const (
	manyServers = "docs/many-servers.md"
	announced4  = "203.0.113.10"
	announced6  = "2001:db8:113::10"
)

// fleet is servers that announce one address to the paper's router, and a client behind that.
type fleet struct {
	*scene
	datapath string
	daemon   routingDaemon
	servers  []*twin
}

// routingDaemon speaks BGP on the servers and the router.
type routingDaemon struct {
	start       func(f *fleet, host *netlab.Host, packaged, dir string)
	atServer    string // its packaged configuration
	withoutIPv6 bool
}

var bird = routingDaemon{start: (*fleet).startBIRD, atServer: "bird.conf"}

// newFleet starts the router's BIRD, and both programs on each server.
func newFleet(t *testing.T, datapath string, servers int) *fleet {
	t.Helper()
	return newFleetOf(t, datapath, servers, bird)
}

func newFleetOf(t *testing.T, datapath string, servers int, daemon routingDaemon) *fleet {
	t.Helper()
	f := newRouter(t, datapath, servers, daemon)
	for _, m := range f.servers {
		f.start(m)
		daemon.start(f, m.host, daemon.atServer, m.dir)
	}
	return f
}

// newRouter starts the router's daemon alone.
func newRouter(t *testing.T, datapath string, servers int, daemon routingDaemon) *fleet {
	t.Helper()
	f := &fleet{scene: newScene(t, paper.NetworkOptions{IPv6: true, Neighbours: servers}), datapath: datapath, daemon: daemon}
	for _, family := range []string{"ipv4", "ipv6"} {
		if err := f.Router.Sysctl("net/"+family+"/fib_multipath_hash_policy", "1"); err != nil {
			t.Fatal(err)
		}
	}
	daemon.start(f, f.Router, "router.conf", f.dir)
	for i, host := range f.Neighbours {
		m := &twin{s: f.scene, host: host, name: fmt.Sprint(i + 1), dir: filepath.Join(f.dir, fmt.Sprint(i+1))}
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() && m.caddy != nil {
				t.Logf("machine %s: Caddy's log ends so:\n%s", m.name, m.caddy.Log(25))
			}
		})
		f.servers = append(f.servers, m)
	}
	return f
}

// start starts Caddy on a server with the example of the page.
func (f *fleet) start(m *twin) {
	f.t.Helper()
	m.start(f.caddyfile())
	m.answerDatagrams()
}

func (f *fleet) caddyfile() string {
	f.t.Helper()
	config := examples.Beginning(f.t, manyServers, "{\n\tvnic {\n\t\tkey {$VNIC_KEY}\n\t\tsegment a {")
	return f.replaced(manyServers, config, [][2]string{{"nic eth1", "nic eth0"}, {"client_ip preserve", "client_ip preserve\nports any"}, {"\tvnic {", "\tvnic {\ndatapath " + f.datapath}})
}

// replaced changes an example, of which each text must have one.
func (s *scene) replaced(page, config string, changes [][2]string) string {
	s.t.Helper()
	for _, change := range changes {
		if strings.Count(config, change[0]) != 1 {
			s.t.Fatalf("%s does not have %q once", page, change[0])
		}
		config = strings.Replace(config, change[0], change[1], 1)
	}
	return config
}

// startBIRD starts BIRD on a host with a packaged configuration.
func (f *fleet) startBIRD(host *netlab.Host, packaged, dir string) {
	f.t.Helper()
	config, err := os.ReadFile(filepath.Join("..", "packaging", "bird", packaged))
	if err != nil {
		f.t.Fatal(err)
	}
	path, log := filepath.Join(dir, packaged), filepath.Join(dir, "bird.log")
	text := f.replaced(packaged, string(config), [][2]string{{"log syslog all", fmt.Sprintf("log %q all", log)}})
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command("bird", "-f", "-c", path, "-s", filepath.Join(dir, "bird.ctl"), "-P", filepath.Join(dir, "bird.pid"))
	if _, err := host.Start(cmd); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if f.t.Failed() {
			said, _ := os.ReadFile(log)
			f.t.Logf("the log of BIRD with %s ends so:\n%s", packaged, said[max(0, len(said)-2000):])
		}
	})
}

// announces tells whether a server has the routes of both families.
func (f *fleet) announces(m *twin) (ipv4, ipv6 bool) {
	f.t.Helper()
	has := func(family, address string) bool {
		out, err := m.host.Run(f.t.Context(), "ip", family, "route", "show", "table", "176")
		return err == nil && bytes.Contains(out, []byte("unreachable "+address+" ")) && bytes.Contains(out, []byte("proto 76"))
	}
	return has("-4", announced4), has("-6", announced6)
}

// waitAnnounced waits until a server has both routes, or neither, and returns how long that took.
func (f *fleet) waitAnnounced(when string, m *twin, want bool) time.Duration {
	f.t.Helper()
	since := time.Now()
	f.waitFor(fmt.Sprintf("%s: machine %s has the routes: %v", when, m.name, want), func() bool {
		ipv4, ipv6 := f.announces(m)
		return ipv4 == want && ipv6 == want
	})
	return time.Since(since)
}

// waitRouted waits until the router sends to these servers, and no others.
func (f *fleet) waitRouted(when string, to ...*twin) time.Duration {
	f.t.Helper()
	since := time.Now()
	f.waitFor(fmt.Sprintf("%s: the router sends to %d servers", when, len(to)), func() bool {
		ipv4 := f.run(f.Router, "ip", "-4", "route", "show", announced4)
		hops := strings.Count(ipv4, "via ") == len(to)
		if !f.daemon.withoutIPv6 {
			hops = hops && strings.Count(f.run(f.Router, "ip", "-6", "route", "show", announced6), "via ") == len(to)
		}
		for _, m := range to {
			hops = hops && strings.Contains(ipv4, "via 192.168.1.1"+m.name+" ")
		}
		return hops
	})
	return time.Since(since)
}

// serving asks for the site in both families by connections of its own, until these servers have
// answered, and then some more.
func (f *fleet) serving(when string, want ...*twin) {
	f.t.Helper()
	addresses := []string{announced4}
	if !f.daemon.withoutIPv6 {
		addresses = append(addresses, "["+announced6+"]")
	}
	for _, address := range addresses {
		missing := make(map[string]bool)
		for _, m := range want {
			missing["machine "+m.name] = true
		}
		known := len(missing)
		seen := make(map[string]bool)
		for i := 0; i < 20 || len(seen) < known && i < 300; i++ {
			got := f.get("http://" + address + "/")
			if !missing[got] {
				f.t.Fatalf("%s: %s says %q", when, address, got)
			}
			seen[got] = true
		}
		if len(seen) != known {
			f.t.Errorf("%s: of %d servers only %v serve %s", when, known, seen, address)
		}
	}
}

// afterStop does what systemd does when Caddy has ended.
func (f *fleet) afterStop(m *twin) {
	f.t.Helper()
	dropIn, err := os.ReadFile("../packaging/bird/caddy.service.d/announce.conf")
	if err != nil {
		f.t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^ExecStopPost=-/bin/sh -c '(.*)'$`).FindSubmatch(dropIn)
	if command == nil {
		f.t.Fatal("the drop-in has no ExecStopPost")
	}
	f.run(m.host, "/bin/sh", "-c", string(command[1]))
}

// Row H9: the route is there while the bridge is fit, and a router that learns of it sends the clients.
// Nobody on the link hears of the address.
func TestAnnouncedAddress(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		f := newFleet(t, datapath, 1)
		m := f.servers[0]
		sent := f.capture(m.host, "eth0")
		f.waitAnnounced("started", m, true)
		f.waitRouted("started", m)
		f.serving("started", m)
		for _, step := range []struct {
			what       string
			fail, mend func()
		}{
			{"drain", func() { m.vnic(examples.Beginning(t, manyServers, "caddy vnic drain")) },
				func() { m.vnic(examples.Beginning(t, manyServers, "caddy vnic activate")) }},
			{"the cable is unplugged", func() { f.ip(f.Switch, "link set to-"+m.host.Name()+" down") },
				func() { f.ip(f.Switch, "link set to-"+m.host.Name()+" up") }},
			{"kill -9", func() {
				m.killCaddy()
				f.waitAnnounced("killed", m, true)
				f.afterStop(m)
			}, func() { f.start(m) }},
			{"stop", m.stopCaddy, func() { f.start(m) }},
		} {
			step.fail()
			local := f.waitAnnounced(step.what, m, false)
			t.Logf("%s: the routes are gone after %d ms, and the router's after %d ms more", step.what, local.Milliseconds(), f.waitRouted(step.what).Milliseconds())
			step.mend()
			f.waitAnnounced("after "+step.what, m, true)
			f.waitRouted("after "+step.what, m)
			f.serving("after "+step.what, m)
		}
		four, six := netip.MustParseAddr(announced4).As4(), netip.MustParseAddr(announced6).As16()
		for _, frame := range f.frames(sent) {
			neighbour := isNeighbourMessage(frame.Data)
			if frame.Outgoing && neighbour && (bytes.Contains(frame.Data, four[:]) || bytes.Contains(frame.Data, six[:])) {
				t.Errorf("the machine tells the link of the address: %x", frame.Data)
			}
		}
	})
}

// isNeighbourMessage tells whether a frame is ARP, NDP or MLD.
func isNeighbourMessage(frame []byte) bool {
	switch {
	case len(frame) < 14:
		return false
	case frame[12] == 0x08 && frame[13] == 0x06:
		return true
	case frame[12] != 0x86 || frame[13] != 0xdd || len(frame) < 55:
		return false
	}
	const hopByHop, icmpv6, report2, firstNDP, lastNDP = 0, 58, 143, 133, 137
	return frame[20] == hopByHop || frame[20] == icmpv6 && (frame[54] == report2 || frame[54] >= firstNDP && frame[54] <= lastNDP)
}

// Row H9: what a killed process has left is removed by the next one, if that is not fit.
func TestLeftAnnouncement(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		f := newFleet(t, datapath, 1)
		m := f.servers[0]
		f.waitAnnounced("started", m, true)
		m.killCaddy()
		f.ip(f.Switch, "link set to-"+m.host.Name()+" down")
		f.start(m)
		f.waitAnnounced("started without a link", m, false)
	})
}

// Row H9: reloads add, move and remove the routes, and an upgrade keeps them.
func TestAnnouncementByReload(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		f := newFleet(t, datapath, 1)
		m := f.servers[0]
		f.waitAnnounced("started", m, true)
		reload := func(config string) {
			t.Helper()
			m.write("Caddyfile", config)
			if err := m.caddy.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		const option = "announce route table 176"
		reload(strings.Replace(f.caddyfile(), option, "announce route table 177", 1))
		f.waitAnnounced("in another table", m, false)
		f.waitFor("the route is in the other table", func() bool {
			out, err := m.host.Run(t.Context(), "ip", "route", "show", "table", "177")
			return err == nil && bytes.Contains(out, []byte(announced4))
		})
		reload(strings.Replace(f.caddyfile(), option, "dad off", 1))
		f.waitFor("the route is gone from the other table", func() bool {
			out, _ := m.host.Run(t.Context(), "ip", "route", "show", "table", "177")
			return !bytes.Contains(out, []byte(announced4))
		})
		f.run(f.Router, "arping", "-c", "1", "-w", "20", "-I", paper.RouterWANDevice, announced4) // its link hears of it
		reload(f.caddyfile())
		f.waitAnnounced("added", m, true)
		if status := m.status().Bridges["world"].Announce; status == nil || !status.Fit || status.State != vnicbridge.BridgeIsActive {
			t.Errorf("the status says %+v", status)
		}
		f.waitRouted("added", m)
		f.serving("added", m)
		f.wantNoARP("added")
		f.wantKeptByUpgrade(m)
		f.serving("upgraded", m)
		f.wantNoARP("upgraded")
	})
}

func (f *fleet) wantNoARP(when string) {
	f.t.Helper()
	if out, err := f.Router.Run(f.t.Context(), "arping", "-c", "1", "-w", "1", "-I", paper.RouterWANDevice, announced4); err == nil {
		f.t.Errorf("%s: the bridge answers ARP: %s", when, out)
	}
}

// wantKeptByUpgrade lets a successor take over, and checks that the kernel tells of no route that
// goes meanwhile.
func (f *fleet) wantKeptByUpgrade(m *twin) {
	f.t.Helper()
	var events bytes.Buffer
	monitor := exec.Command("ip", "monitor", "route")
	monitor.Stdout = &events
	watching, err := m.host.Start(monitor)
	if err != nil {
		f.t.Fatal(err)
	}
	pid, old := 0, m.caddy.Process()
	if output := m.vnic("caddy vnic upgrade"); !strings.HasPrefix(output, "Process ") {
		f.t.Fatalf("caddy vnic upgrade says %q", output)
	} else if _, err := fmt.Sscanf(output, "Process %d has taken over.", &pid); err != nil {
		f.t.Fatal(err)
	}
	if err := m.caddy.Follow(pid); err != nil {
		f.t.Fatal(err)
	}
	<-old.Done()
	f.waitFor("the successor is fit", func() bool {
		status := m.status().Bridges["world"].Announce
		return status != nil && status.Fit
	})
	_ = watching.Stop() // by a signal, which it reports
	<-watching.Done()
	if strings.Contains(events.String(), "Deleted unreachable") {
		f.t.Errorf("an upgrade removes the route:\n%s", events.String())
	}
	f.waitAnnounced("upgraded", m, true)
}

// Row H9: two servers serve one address, and when one of them is drained, the other serves all.
func TestManyServers(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		newFleet(t, datapath, 2).serveByTurns()
	})
}

// serveByTurns takes each of two servers out of service, and checks who serves.
func (f *fleet) serveByTurns() {
	f.t.Helper()
	one, two := f.servers[0], f.servers[1]
	f.waitRouted("started", one, two)
	f.serving("started", one, two)
	one.vnic(examples.Beginning(f.t, manyServers, "caddy vnic drain"))
	f.t.Logf("drained: the router sends elsewhere after %d ms", f.waitRouted("drained", two).Milliseconds())
	f.serving("drained", two)
	one.vnic(examples.Beginning(f.t, manyServers, "caddy vnic activate"))
	f.waitRouted("activated", one, two)
	f.serving("activated", one, two)
	two.killCaddy()
	f.afterStop(two)
	f.t.Logf("killed: the router sends elsewhere after %d ms", f.waitRouted("killed", one).Milliseconds())
	f.serving("killed", one)
}
