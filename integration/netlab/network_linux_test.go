package netlab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The addresses of the tests' network.
var (
	clientAddr    = netip.MustParseAddr("192.0.2.2")
	routerLANAddr = netip.MustParseAddr("192.0.2.1")
	routerWANAddr = netip.MustParseAddr("198.51.100.1")
	serverAddr    = netip.MustParseAddr("198.51.100.2")
)

// testNetwork is a client and a server with a router that translates addresses
// between them. The server is at the router's switch.
type testNetwork struct {
	*Network
	client, router, server *Host
}

func newTestNetwork(t *testing.T, offloads bool) *testNetwork {
	t.Helper()
	n, err := makeTestNetwork(fmt.Sprintf("labtest-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if offloads {
		return n
	}
	for device, host := range map[string]*Host{"eth0": n.server, "lan": n.router, "wan": n.router, "uplink": n.client} {
		if err := host.SetOffloads(device, false); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func makeTestNetwork(name string) (*testNetwork, error) {
	network, err := NewNetwork(name)
	if err != nil {
		return nil, err
	}
	n := &testNetwork{Network: network}
	if err := n.build(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *testNetwork) build() (err error) {
	hosts := make(map[string]*Host)
	for _, name := range []string{"client", "router", "switch", "server"} {
		if hosts[name], err = n.NewHost(name); err != nil {
			return err
		}
	}
	n.client, n.router, n.server = hosts["client"], hosts["router"], hosts["server"]
	return errors.Join(
		n.Link(
			End{Host: n.client, Device: "uplink", Address: netip.PrefixFrom(clientAddr, 24)},
			End{Host: n.router, Device: "lan", Address: netip.PrefixFrom(routerLANAddr, 24)}),
		n.Link(
			End{Host: n.router, Device: "wan", Address: netip.PrefixFrom(routerWANAddr, 24)},
			End{Host: hosts["switch"], Device: "to-router"}),
		n.Link(
			End{Host: n.server, Device: "eth0", Address: netip.PrefixFrom(serverAddr, 24)},
			End{Host: hosts["switch"], Device: "to-server"}),
		hosts["switch"].Bridge("br0", "to-router", "to-server"),
		n.client.DefaultRoute(routerLANAddr),
		n.server.DefaultRoute(routerWANAddr),
		n.router.Sysctl("net/ipv4/ip_forward", "1"),
		n.router.Masquerade("wan"),
	)
}

// serve answers on the host's TCP port 80 with a page, or with the client's
// address when that is empty.
func serve(t *testing.T, h *Host, page string) {
	t.Helper()
	var listener net.Listener
	err := h.Do(func() (err error) {
		listener, err = net.Listen("tcp4", ":80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, _ := net.SplitHostPort(r.RemoteAddr)
		io.WriteString(w, cmp.Or(page, client))
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

// get reads the server's page.
func get(t *testing.T, h *Host) string {
	t.Helper()
	resp, err := h.HTTPClient().Get("http://" + serverAddr.String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestRouter reaches the server from the client, which the server sees as the
// router with NAT, and as itself without.
func TestRouter(t *testing.T) {
	n := newTestNetwork(t, false)
	serve(t, n.server, "")
	if got := get(t, n.client); got != routerWANAddr.String() {
		t.Errorf("with NAT the client is %s, want %s", got, routerWANAddr)
	}
	if err := n.router.StopMasquerade(); err != nil {
		t.Fatal(err)
	}
	if got := get(t, n.client); got != clientAddr.String() {
		t.Errorf("without NAT the client is %s, want %s", got, clientAddr)
	}
}

// TestNetworkClose checks that nothing is left: no namespace, no lock, no program.
func TestNetworkClose(t *testing.T) {
	name := fmt.Sprintf("labtest-close-%d", os.Getpid())
	n, err := makeTestNetwork(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewNetwork(name); err == nil || !strings.Contains(err.Error(), "already up") {
		t.Errorf("a second network of the same name: %v", err)
	}
	sleep, err := n.server.Start(exec.Command("sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sleep.Done():
	default:
		t.Error("a program outlived its network")
	}
	wantGone(t, name)
}

// TestLeftovers lets a process make a network and be killed: the next network
// that anyone makes removes what it left, and its programs died with it.
func TestLeftovers(t *testing.T) {
	name := fmt.Sprintf("labtest-killed-%d", os.Getpid())
	if os.Getenv("LABTEST_NETWORK") != "" {
		n, err := makeTestNetwork(os.Getenv("LABTEST_NETWORK"))
		if err != nil {
			t.Fatal(err)
		}
		sleep := exec.Command("sleep", "60")
		if _, err := n.server.Start(sleep); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid=%d\n", sleep.Process.Pid)
		select {}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	owner := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestLeftovers$")
	owner.Env = append(os.Environ(), "LABTEST_NETWORK="+name)
	output, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(output, "pid=%d\n", &pid); err != nil {
		t.Fatal(err)
	}
	owner.Process.Kill()
	owner.Wait()

	newTestNetwork(t, true)
	wantGone(t, name)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), "(sleep) Z") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a program of a killed lab still runs: %s", stat)
		}
	}
}

func wantGone(t *testing.T, network string) {
	t.Helper()
	for _, prefix := range []string{"/run/netns/", lockPrefix} {
		if left, _ := filepath.Glob(prefix + network + "*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
