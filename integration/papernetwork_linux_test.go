package integration

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// paperNetwork builds a paper's network for one test.
func paperNetwork(t *testing.T, opts PaperOptions) *PaperNetwork {
	t.Helper()
	network, err := NewPaperNetwork(fmt.Sprintf("labtest-%d", os.Getpid()), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	return network
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
	if err := h.DefaultRoute(RouterAddr); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, h *Host, url string) string {
	t.Helper()
	resp, err := h.HTTPClient().Get(url)
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

// TestRouter reaches a neighbour of the server from PC1, which the neighbour
// sees as the router with NAT, and as itself without.
func TestRouter(t *testing.T) {
	n := paperNetwork(t, PaperOptions{NAT: true, Neighbours: 1, NoOffloads: true})
	serve(t, n.Neighbours[0], "")
	if got := get(t, n.PC1, "http://192.168.1.11/"); got != RouterAddr.String() {
		t.Errorf("with NAT the client is %s, want %s", got, RouterAddr)
	}
	if err := n.Router.StopMasquerade(); err != nil {
		t.Fatal(err)
	}
	if got := get(t, n.PC1, "http://192.168.1.11/"); got != PC1Addr.String() {
		t.Errorf("without NAT the client is %s, want %s", got, PC1Addr)
	}
}

// TestNetworkClose checks that nothing is left: no namespace, no lock, no program.
func TestNetworkClose(t *testing.T) {
	name := fmt.Sprintf("labtest-close-%d", os.Getpid())
	n, err := NewPaperNetwork(name, PaperOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewNetwork(name); err == nil || !strings.Contains(err.Error(), "already up") {
		t.Errorf("a second network of the same name: %v", err)
	}
	sleep, err := n.Server.Start(exec.Command("sleep", "60"))
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
		n, err := NewPaperNetwork(os.Getenv("LABTEST_NETWORK"), PaperOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sleep := exec.Command("sleep", "60")
		if _, err := n.Server.Start(sleep); err != nil {
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

	paperNetwork(t, PaperOptions{})
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
