package caddymodule

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// oneSegment operates segment a while b serves. It is a step of TestRunningCaddy.
func oneSegment(t *testing.T) {
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"what cannot be", refusedOperations},
		{"drain", drainAndActivate},
		{"stop", stopAndStart},
		{"stopped over reloads", stoppedOverReloads},
		{"stopped and removed", stoppedAndRemoved},
		{"stop under TLS", stopUnderTLS},
		{"switch", switchAndBack},
		{"weight", weighAndBack},
		{"flows", listFlows},
	} {
		t.Run(step.name, step.run)
	}
	mustLoad(t, running)
}

func refusedOperations(t *testing.T) {
	expectAPI(t, http.MethodPost, segmentsURL+"z/stop", http.StatusNotFound, `unknown segment \"z\": the configuration has a, b`)
	expectAPI(t, http.MethodPost, segmentsURL+"a/paint", http.StatusNotFound, `unknown operation \"paint\"`)
	expectAPI(t, http.MethodPost, segmentsURL+"a/", http.StatusNotFound, "one of activate, drain, start, stop")
	expectAPI(t, http.MethodGet, segmentsURL+"a/stop", http.StatusMethodNotAllowed, "use POST")
	err := execute("stop", "z")
	if err == nil || !strings.Contains(err.Error(), "the configuration has a, b") {
		t.Errorf("the command says %v", err)
	}
	expectState(t, config.Active)
	expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
}

// execute runs a command on a segment of the running instance.
func execute(operation, segment string) error {
	_, err := run(operation, segment)
	return err
}

func mustExecute(t *testing.T, operation string) {
	t.Helper()
	if err := execute(operation, "a"); err != nil {
		t.Fatal(err)
	}
}

func expectState(t *testing.T, want config.State) {
	t.Helper()
	if got := status(t).Segments["a"].State; got != want {
		t.Errorf("a is %s, want %s", got, want)
	}
}

// drainAndActivate checks that a drained segment's servers still serve the host itself, whose
// requests do not pass the bridge.
func drainAndActivate(t *testing.T) {
	mustExecute(t, "drain")
	expectState(t, config.Draining)
	expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
	mustLoad(t, running)
	expectState(t, config.Draining)
	mustExecute(t, "activate")
	expectState(t, config.Active)
	mustRun(t, "drain", "a", "--flows")
	expectState(t, config.Draining)
	mustExecute(t, "activate")
	expectSend(t, http.MethodPost, segmentsURL+"a/drain", `{"flows": true}`, http.StatusOK, "")
	expectState(t, config.Draining)
	expectSend(t, http.MethodPost, segmentsURL+"a/drain", `{"all": true}`, http.StatusBadRequest, `unknown field \"all\"`)
	mustExecute(t, "activate")
	expectState(t, config.Active)
}

func stopAndStart(t *testing.T) {
	idle := keepAlive(t)
	mustExecute(t, "stop")
	expectState(t, config.Stopped)
	expectRefused(t, "192.168.50.1:80")
	expectBody(t, "http://192.168.60.1/", "b saw 192.168.60.1")
	if ports := status(t).Segments["a"].Ports; len(ports) > 0 {
		t.Errorf("ports of the stopped segment are open: %v", ports)
	}
	if _, err := idle.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection reads %v, want its end", err)
	}
	expectAPI(t, http.MethodPost, segmentsURL+"a/drain", http.StatusConflict, "segment a is stopped")
	mustExecute(t, "start")
	expectState(t, config.Active)
	expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
}

// keepAlive opens a connection on which one request has been answered.
func keepAlive(t *testing.T) *bufio.Reader {
	t.Helper()
	c, err := net.Dial("tcp", "192.168.50.1:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(c)
	resp, err := http.ReadResponse(from, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return from
}

// stoppedOverReloads checks that a stopped segment stays stopped after reloads, after a reload
// that fails, and at a new address.
func stoppedOverReloads(t *testing.T) {
	mustExecute(t, "stop")
	mustLoad(t, running)
	expectRefused(t, "192.168.50.1:80")
	bad := strings.Replace(running, "lb_policy first a b", "lb_policy first b", 1)
	bad = strings.Replace(bad, "nic nic0", "nic nic9", 1)
	if reload(t, bad) == nil {
		t.Error("the bad configuration loads")
	}
	expectRefused(t, "192.168.50.1:80")
	moved := strings.Replace(running, "192.168.50.1/24", "192.168.51.1/24", 1)
	mustLoad(t, moved)
	expectState(t, config.Stopped)
	expectRefused(t, "192.168.51.1:80")
	mustExecute(t, "start")
	expectBody(t, "http://192.168.51.1/", "a saw 192.168.51.1")
	mustLoad(t, running)
	expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
}

// stoppedAndRemoved checks that a segment that is removed and added again is a new one.
func stoppedAndRemoved(t *testing.T) {
	mustExecute(t, "stop")
	without := strings.NewReplacer("lb_policy first a b", "lb_policy first c b", "segment a", "segment c",
		"bind vnic/a", "bind vnic/c", "192.168.50.1/24", "192.168.70.1/24").Replace(running)
	mustLoad(t, without)
	expectBody(t, "http://192.168.70.1/", "a saw 192.168.70.1")
	mustLoad(t, running)
	expectState(t, config.Active)
	expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
}

// stopUnderTLS checks that HTTP/2 and HTTP/3 stop and start again, also with a reload in
// between. Caddy keeps its one QUIC listener all the time.
func stopUnderTLS(t *testing.T) {
	mustLoad(t, secure)
	expectAnswers(t, "192.168.50.1")
	mustExecute(t, "stop")
	expectRefused(t, "192.168.50.1:443")
	expectSilence(t, "192.168.50.1:443")
	mustLoad(t, secure)
	expectSilence(t, "192.168.50.1:443")
	mustExecute(t, "start")
	expectAnswers(t, "192.168.50.1")
}

func expectRefused(t *testing.T, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to %s: %v, want connection refused", addr, err)
	}
}

// expectSilence waits until nothing listens on a UDP port.
func expectSilence(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		c.Write([]byte("x"))
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
	}
	t.Errorf("UDP port %s stays open", addr)
}
