package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/caddy-vnic/caddy-vnic/integration/adminclient"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// onEachDataPath runs a conformance test on each data path that there is, beside the
// other one and beside other tests: most of what a test does is to wait.
func onEachDataPath(t *testing.T, test func(t *testing.T, datapath string)) {
	if !strings.Contains(t.Name(), "/") { // whether cases of a test run beside each other, they say themselves
		t.Parallel()
	}
	onBothAtOnce(t, test)
}

// onBothAtOnce runs a conformance test on the data paths beside each other. Whether it
// runs beside other tests, the test says itself.
func onBothAtOnce(t *testing.T, test func(t *testing.T, datapath string)) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		t.Parallel()
		test(t, datapath)
	})
}

// onEachInTurn runs a conformance test on one data path after the other, and beside no
// other test: one that loads the machine, or that measures time.
func onEachInTurn(t *testing.T, test func(t *testing.T, datapath string)) {
	for _, datapath := range []string{"userspace", "kernel"} {
		t.Run(datapath, func(t *testing.T) { test(t, datapath) })
	}
}

// caddyfile is the server's Caddyfile: the paper's two segments behind nic0.
type caddyfile struct {
	datapath string
	nic      string // default: nic0
	families string // of the addresses of segments and bridge: 4 (default), 6 or 46
	gateway6 string // of IPv6; default: the router's global address
	deviceB  string // of segment b; default: interface vnic-B
	a, b     string // further options of the segments, one a line
	policy   string // of the bridge; default: lb_policy first a
	global   string // further global options
	sites    string // default: a page on each segment that says its name
}

const pages = `
http:// {
	bind vnic/a
	respond "a"
}
http:// {
	bind vnic/b
	respond "b"
}
`

func (c caddyfile) String() string {
	for option, value := range map[*string]string{
		&c.datapath: "auto", &c.nic: paper.NICDevice, &c.policy: "lb_policy first a", &c.sites: pages,
		&c.families: "4", &c.deviceB: "interface vnic-B", &c.gateway6: paper.RouterAddr6.String(),
	} {
		if *option == "" {
			*option = value
		}
	}
	return fmt.Sprintf(`{
	%s
	vnic {
		segment a {
			interface vnic-A
			address %s
			mac 50:01:02:03:04:05
			%s
		}
		segment b {
			%s
			address %s
			%s
		}
		bridge lan {
			nic %s
			address %s
			gateway %s
			%s
		}
		datapath %s
	}
}
%s`, c.global, c.addresses("192.168.50.1/24", "fd00:50::1/64"), c.a, c.deviceB, c.addresses("192.168.60.1/24", "fd00:60::1/64"), c.b,
		c.nic, c.addresses("192.168.1.2/24", "2001:db8:1::2/64"), c.addresses("192.168.1.1", c.gateway6), c.policy, c.datapath, c.sites)
}

// addresses is what the families in use have of a pair.
func (c caddyfile) addresses(ipv4, ipv6 string) string {
	return map[string]string{"4": ipv4, "6": ipv6, "46": ipv4 + " " + ipv6}[c.families]
}

// verbatim is a Caddyfile as it stands.
type verbatim string

func (c verbatim) String() string { return string(c) }

// scene is the paper's network, with or without Caddy on the server.
type scene struct {
	*paper.Network
	t      *testing.T
	name   string
	dir    string   // of the Caddyfile, the logs and Caddy's own files
	env    []string // of Caddy, in addition to this process's
	admin  string   // the Unix socket of Caddy's admin API; empty: it is at localhost:2019
	caddy  *netlab.Caddy
	starts int
}

// Scenes have the names of their process, and a number. A process that was killed may have
// left namespaces, and its number may be another's now.
var (
	process = fmt.Sprintf("e2e-%d-%04x", os.Getpid(), rand.N(1<<16))
	scenes  atomic.Int32
)

// newScene builds the network for one test.
func newScene(t *testing.T, opts paper.NetworkOptions) *scene {
	t.Helper()
	name := fmt.Sprintf("%s-%d", process, scenes.Add(1))
	network, err := paper.NewNetwork(name, opts)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{Network: network, t: t, name: name, dir: t.TempDir(), env: []string{asCaddy}}
	t.Cleanup(func() {
		if t.Failed() && s.caddy != nil {
			t.Logf("Caddy's log ends so:\n%s", s.caddy.Log(40))
		}
		if err := network.Close(); err != nil {
			t.Error(err)
		}
		s.wantNoRace()
	})
	s.waitFor("the server's cables are plugged in, which the kernel tells up to a second later", func() bool {
		links, err := s.Server.Netlink().LinkList()
		return err == nil && !slices.ContainsFunc(links, func(l netlink.Link) bool {
			return l.Attrs().Flags&(net.FlagUp|net.FlagRunning) == net.FlagUp
		})
	})
	return s
}

// wantNoRace looks for what the race detector has found in Caddy: it reports
// there, and does not fail this process.
func (s *scene) wantNoRace() {
	s.t.Helper()
	found := 0
	for _, machine := range []string{"", "*"} { // of several, each has a directory
		logs, err := filepath.Glob(filepath.Join(s.dir, machine, "caddy-*.log"))
		if err != nil {
			s.t.Error(err)
		}
		found += len(logs)
		for _, log := range logs {
			s.wantNoRaceIn(log)
		}
	}
	if found < s.starts {
		s.t.Errorf("of %d starts of Caddy there are %d logs", s.starts, found)
	}
}

func (s *scene) wantNoRaceIn(log string) {
	s.t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		s.t.Error(err)
	}
	if _, report, found := bytes.Cut(text, []byte("WARNING: DATA RACE")); found {
		s.t.Errorf("a data race in Caddy:%s", report)
	}
}

// log is the log of the n-th start.
func (s *scene) log(n int) string { return filepath.Join(s.dir, fmt.Sprintf("caddy-%d.log", n)) }

// start starts Caddy on the server.
func (s *scene) start(config caddyfile) {
	s.t.Helper()
	if err := s.tryStart(config.String()); err != nil {
		s.t.Fatal(err)
	}
}

// tryStart starts Caddy where that may fail; the error has the end of its log.
func (s *scene) tryStart(config string) error {
	s.t.Helper()
	return s.tryStartBy("", config)
}

// tryStartBy does so by way of a program that runs Caddy.
func (s *scene) tryStartBy(program, config string) error {
	s.t.Helper()
	s.starts++
	caddy, err := s.Server.StartCaddy(s.t.Context(), netlab.CaddyOptions{
		Program: program, Config: s.write("Caddyfile", config), Log: s.log(s.starts), State: s.dir, Env: s.env, Admin: s.admin,
	})
	if err == nil {
		s.caddy = caddy
	}
	return err
}

// startBy starts Caddy by way of a command that runs another.
func (s *scene) startBy(command string, config fmt.Stringer) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.startBinaryBy(command, self, config)
}

func (s *scene) startBinaryBy(command, binary string, config fmt.Stringer) {
	s.t.Helper()
	program := s.writeProgram("caddy.sh", "#!/bin/sh\nexec "+command+" "+binary+" \"$@\"\n")
	if err := s.tryStartBy(program, config.String()); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends Caddy in order.
func (s *scene) stop() {
	s.t.Helper()
	if err := s.caddy.Stop(); err != nil {
		s.t.Fatal(err)
	}
}

// reload has Caddy load another Caddyfile by the command `caddy reload`. To start that
// takes a second of a CPU: load does without.
func (s *scene) reload(config caddyfile) {
	s.t.Helper()
	s.write("Caddyfile", config.String())
	if err := s.caddy.Reload(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// write writes a file of the scene and returns its path.
func (s *scene) write(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// writeProgram writes a shell script that is executed afterwards, and returns its path. No test
// beside this one forks while the script is open for writing, because Linux would not execute
// it then ("text file busy").
func (s *scene) writeProgram(name, content string) string {
	s.t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	path := s.write(name, content)
	if err := os.Chmod(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// status asks the admin API what the data plane did.
func (s *scene) status() (status vnicbridge.Status) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.fromAdmin("/vnic/status")), &status); err != nil {
		s.t.Fatal(err)
	}
	return status
}

// fromAdmin fetches a page of the admin API.
func (s *scene) fromAdmin(path string) string {
	s.t.Helper()
	body, err := fetch(s.adminClient(), "http://localhost:2019"+path)
	if err != nil {
		s.t.Fatal(err)
	}
	return body
}

func (s *scene) adminClient() *http.Client { return adminclient.Of(s.Server.HTTPClient()) }

// get fetches a page from PC1.
func (s *scene) get(url string) string {
	s.t.Helper()
	return s.getFrom(s.PC1, url)
}

func (s *scene) getFrom(h *netlab.Host, url string) string {
	s.t.Helper()
	body, err := fetch(h.HTTPClient(), url)
	if err != nil {
		s.t.Fatal(err)
	}
	return body
}

// fetch gets a page, which must come with status 200.
func fetch(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), err
}

// run runs a command on a host, which must succeed.
func (s *scene) run(h *netlab.Host, name string, args ...string) string {
	s.t.Helper()
	output, err := h.Run(s.t.Context(), name, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(output)
}

// ip runs the ip command on a host: s.ip(s.Server, "link set nic0 down").
func (s *scene) ip(h *netlab.Host, args string) string {
	s.t.Helper()
	return s.run(h, "ip", strings.Fields(args)...)
}

// capture captures on devices of a host until the test ends.
func (s *scene) capture(h *netlab.Host, devices ...string) *netlab.Capture {
	s.t.Helper()
	c, err := h.Capture(devices...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// frames are what was captured so far.
func (s *scene) frames(c *netlab.Capture) []netlab.Frame {
	s.t.Helper()
	frames, err := c.Frames()
	if err != nil {
		s.t.Fatal(err)
	}
	return frames
}

// waitFor waits until a condition holds, at most 20 s: what takes one second takes
// ten on a machine with ten times as much to do. It looks again at once first and then
// ever less often, because to look costs the CPUs that others wait for.
func (s *scene) waitFor(what string, condition func() bool) {
	s.t.Helper()
	const most = 75 * time.Second // Caddy tries a certificate again after a minute
	deadline := time.Now().Add(most)
	for pause := 5 * time.Millisecond; !condition(); pause = min(pause*3/2, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within %v", what, most)
		}
		time.Sleep(pause)
	}
}
