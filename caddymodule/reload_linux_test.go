package caddymodule

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/quic-go/quic-go/http3"
	"github.com/vishvananda/netlink"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// TestRunningCaddy loads configurations into a real Caddy with the real data plane, and checks
// the result through the real admin API. It runs as root, in a process with a network namespace
// of its own.
func TestRunningCaddy(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	t.Cleanup(func() { caddy.Stop() })
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"no app yet", noAppYet},
		{"start", start},
		{"forced reload", forcedReload},
		{"failed reload", failedReload},
		{"new address", newAddress},
		{"status command", statusOutput},
		{"a site on all addresses", siteOnAllAddresses},
		{"HTTPS", overTLS},
		{"one segment", oneSegment},
		{"app removed", appRemoved},
		{"any start order", anyStartOrder},
		{"stop", stop},
	} {
		if !t.Run(step.name, step.run) {
			return // the next step begins where this one ends
		}
	}
}

// running is the configuration that most steps leave in force.
const running = `{
	admin localhost:2019
	persist_config off
	vnic {
		segment a {
			address 192.168.50.1/24
		}
		segment b {
			address 192.168.60.1/24
			ports udp/53
		}
		bridge lan {
			nic nic0
			address 192.168.1.2/24
			gateway 192.168.1.1
			lb_policy first a b
		}
	}
}
http:// {
	bind vnic/a
	respond "a saw {remote_host}"
}
http:// {
	bind vnic/b
	respond "b saw {remote_host}"
}
`

func noAppYet(t *testing.T) {
	mustLoad(t, "{\n\tadmin localhost:2019\n\tpersist_config off\n}\n")
	expectAPI(t, http.MethodGet, statusURL, http.StatusServiceUnavailable, "the running configuration has no vnic app")
	expectAPI(t, http.MethodPost, statusURL, http.StatusMethodNotAllowed, "use GET")
	expectAPI(t, http.MethodPost, segmentsURL+"a/stop", http.StatusServiceUnavailable, "the running configuration has no vnic app")
}

func start(t *testing.T) {
	mustLoad(t, running)
	expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
	expectBody(t, "http://192.168.60.1/", "b saw 192.168.60.1")
	s := status(t)
	if got := fmt.Sprint(s.Segments["a"].Ports); got != "[tcp/80]" {
		t.Errorf("the ports of a are %q, want what its server opened", got)
	}
	if got := fmt.Sprint(s.Segments["b"].Ports); got != "[udp/53]" {
		t.Errorf("the ports of b are %q, want those of the configuration", got)
	}
	if b := s.Bridges["lan"]; b.NIC != "nic0" || !b.Up || b.Policy.String() != "first a b" {
		t.Errorf("the bridge is %+v", b)
	}
}

// forcedReload checks that a reload of the same configuration, which systemd's ExecReload
// forces, affects neither the devices nor a connection that waits to be accepted.
func forcedReload(t *testing.T) {
	before := index(t, "vnic-a")
	for range 5 {
		mustLoad(t, running)
		expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
	}
	if after := index(t, "vnic-a"); after != before {
		t.Errorf("vnic-a was index %d and is %d", before, after)
	}
}

// failedReload checks a reload whose server fails, for both orders of the apps: with the
// segments up already, and before them.
func failedReload(t *testing.T) {
	bad := strings.Replace(running, "segment b {", "segment c {\n\t\t\taddress 192.168.70.1/24\n\t\t}\n\t\tsegment b {", 1) +
		"http:// {\n\tbind vnic/nowhere\n}\n"
	for range 5 {
		err := reload(t, bad)
		if err == nil || !strings.Contains(err.Error(), `unknown segment "nowhere": the configuration has a, b, c`) {
			t.Fatalf("the error is %v", err)
		}
		if _, ok := status(t).Segments["c"]; ok || exists("vnic-c") {
			t.Error("a segment of the failed configuration is there")
		}
		expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
	}
}

func newAddress(t *testing.T) {
	mustLoad(t, strings.Replace(running, "192.168.50.1/24", "192.168.51.1/24", 1))
	expectBody(t, "http://192.168.51.1/", "a saw 192.168.51.1")
	if c, err := net.Dial("tcp", "192.168.50.1:80"); err == nil {
		c.Close()
		t.Error("the old address still answers")
	}
	mustLoad(t, running)
	expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
}

func statusOutput(t *testing.T) {
	table := mustRun(t, "status")
	for _, want := range []string{"vnic-a", "192.168.50.1/24", "nic0", "192.168.1.2/24", "first a b"} {
		if !strings.Contains(table, want) {
			t.Errorf("the output lacks %s:\n%s", want, table)
		}
	}
	text := mustRun(t, "status", "--json")
	var s vnicbridge.Status
	if err := json.Unmarshal([]byte(text), &s); err != nil || len(s.Segments) != 2 {
		t.Errorf("--json prints %q: %v", text, err)
	}
}

// siteOnAllAddresses checks that a site that is bound to no segment can have the same port on
// all addresses, whichever opens first.
func siteOnAllAddresses(t *testing.T) {
	for range 4 {
		mustLoad(t, running+"http:// {\n\trespond \"no segment\"\n}\n")
		expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
		expectBody(t, "http://127.0.0.1/", "no segment")
		mustLoad(t, running)
	}
}

// overTLS checks HTTP/2 and HTTP/3 on a segment. Caddy keeps its one QUIC listener over a
// reload, and the listener follows its segment to the new address.
func overTLS(t *testing.T) {
	for _, addr := range []string{"192.168.50.1", "192.168.51.1"} {
		mustLoad(t, strings.Replace(secure, "192.168.50.1/24", addr+"/24", 1))
		expectAnswers(t, addr)
	}
	mustLoad(t, running)
}

// secure is the configuration running, with a site under TLS in addition.
var secure = strings.Replace(running, "persist_config off", "persist_config off\n\tskip_install_trust", 1) +
	"https://site.test {\n\tbind vnic/a\n\ttls internal\n\trespond \"{http.request.proto} {remote_host}\"\n}\n"

// expectAnswers asks site.test over HTTP/2 and HTTP/3.
func expectAnswers(t *testing.T, addr string) {
	t.Helper()
	tlsConfig := &tls.Config{InsecureSkipVerify: true, ServerName: "site.test"} // each run makes a new CA
	h3 := &http3.Transport{TLSClientConfig: tlsConfig}
	for want, transport := range map[string]http.RoundTripper{
		"HTTP/2.0 " + addr: &http.Transport{TLSClientConfig: tlsConfig.Clone(), ForceAttemptHTTP2: true},
		"HTTP/3.0 " + addr: h3,
	} {
		expectAnswer(t, transport, addr, want)
	}
	h3.Close()
}

// expectAnswer asks site.test at an address until the site has its certificate.
func expectAnswer(t *testing.T, transport http.RoundTripper, addr, want string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "https://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "site.test"
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	var resp *http.Response
	if !eventually(func() bool {
		resp, err = client.Do(req)
		return err == nil
	}) {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != want {
		t.Errorf("the answer is %q, %v; want %q", body, err, want)
	}
}

func appRemoved(t *testing.T) {
	noAppYet(t)
	expectNoDevices(t)
}

// anyStartOrder checks that a listener that opens before the app starts brings its segment up.
// Apps start in random order.
func anyStartOrder(t *testing.T) {
	for range 6 {
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		expectNoDevices(t)
		mustLoad(t, running)
		expectBody(t, "http://192.168.60.1/", "b saw 192.168.60.1")
	}
}

func stop(t *testing.T) {
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	expectNoDevices(t)
}

func mustLoad(t *testing.T, caddyfile string) {
	t.Helper()
	if err := reload(t, caddyfile); err != nil {
		t.Fatal(err)
	}
}

// reload loads a configuration, even if it is in force already.
func reload(t *testing.T, caddyfile string) error {
	t.Helper()
	adapted, err := adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	return caddy.Load(adapted, true)
}

// fetch makes a request on a connection of its own.
func fetch(t *testing.T, method, url string) (int, string) {
	t.Helper()
	return fetchWith(t, method, url, nil)
}

func expectBody(t *testing.T, url, want string) {
	t.Helper()
	if code, body := fetch(t, http.MethodGet, url); code != http.StatusOK || body != want {
		t.Errorf("%s answers %d %q, want %q", url, code, body, want)
	}
}

const (
	statusURL   = "http://localhost:2019/vnic/status"
	segmentsURL = "http://localhost:2019/vnic/segments/"
)

func expectAPI(t *testing.T, method, url string, code int, message string) {
	t.Helper()
	gotCode, body := fetch(t, method, url)
	if gotCode != code || !strings.Contains(body, message) {
		t.Errorf("%s %s answers %d %q, want %d and %q", method, url, gotCode, body, code, message)
	}
}

func status(t *testing.T) (s vnicbridge.Status) {
	t.Helper()
	code, body := fetch(t, http.MethodGet, statusURL)
	if code != http.StatusOK {
		t.Fatalf("the status is %d %q", code, body)
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func index(t *testing.T, device string) int {
	t.Helper()
	link, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Index
}

func exists(device string) bool {
	_, err := netlink.LinkByName(device)
	return err == nil
}

func expectNoDevices(t *testing.T) {
	t.Helper()
	for _, device := range []string{"vnic-a", "vnic-b", "vnic-c"} {
		if exists(device) {
			t.Errorf("%s is there", device)
		}
	}
}

const ownNetworkEnv = "CADDY_VNIC_TEST_OWN_NETWORK"

// inOwnNetwork tells whether this process has a network namespace for the test. If not, it runs
// the test in a process that has one.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownNetworkEnv) != "" {
		if err := makeNetwork(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	home := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), ownNetworkEnv+"=1", "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// makeNetwork makes lo and a NIC with a link.
func makeNetwork() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	nic := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "nic0"}, PeerName: "peer0"}
	if err := netlink.LinkAdd(nic); err != nil {
		return fmt.Errorf("making nic0: %w", err)
	}
	peer, err := netlink.LinkByName("peer0")
	if err != nil {
		return err
	}
	for _, link := range []netlink.Link{lo, nic, peer} {
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	return nil
}
