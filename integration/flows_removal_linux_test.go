package integration_test

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F10: a segment that a reload removes resets its connections at once, on
// both sides: curl is told so, and does not wait. Those of the other segment go
// on.
func TestRemovedSegmentIsReset(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := caddyfile{datapath: datapath, a: "ports any", b: "ports any", policy: "steer b port tcp/9001\nlb_policy first a"}
		s.start(config)
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		ended := make(chan error, 1)
		s.listen(s.Server, "192.168.60.1:9001", func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nand then nothing")
			_, err := io.Copy(io.Discard, conn)
			ended <- err
		})
		onA := s.openSession("192.168.1.2:9000")
		onA.want("the start")
		curl := exec.CommandContext(t.Context(), "curl", "-sS", "--no-buffer", "http://192.168.1.2:9001/")
		answer, err := curl.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		process, err := s.PC1.Start(curl)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := answer.Read(make([]byte, 100)); err != nil { // curl has its answer
			t.Fatal(err)
		}

		text := config.String()
		from, to := strings.Index(text, "segment b {"), strings.Index(text, "bridge lan {")
		text = text[:from] + text[to:strings.LastIndex(text, "http:// {")]
		text = strings.Replace(text, "steer b port tcp/9001", "", 1)
		if answer, err := s.postText(text); err != nil || answer != "" {
			t.Fatalf("POST /load: %q (%v)", answer, err)
		}
		select {
		case <-process.Done():
		case <-time.After(time.Second):
			t.Fatal("curl still waits for the removed segment")
		}
		var exit *exec.ExitError
		if err := process.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 56 {
			t.Errorf("curl: %v, want exit status 56, for a reset", err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the segment's server got %v, want a reset", err)
			}
		case <-time.After(time.Second):
			t.Error("the segment's server still waits for the client")
		}
		onA.want("the removal of b")
	})
}

// Row F5: a connection that the bridge has forgotten, because it was killed, goes
// on after a new start under `ip_hash` and `flow_hash`, under which it comes to
// the same segment and alias; under other policies its client is told at once.
func TestPickUp(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := caddyfile{datapath: datapath, a: "ports any", b: "ports any", policy: "lb_policy flow_hash a b"}
		s.start(config)
		for _, segment := range []string{"192.168.50.1", "192.168.60.1"} {
			s.listen(s.Server, segment+":9000", func(conn net.Conn) { io.Copy(conn, conn) })
		}
		var sessions []*session
		for range 8 { // of both segments, but for 1 run of 128
			sessions = append(sessions, s.openSession("192.168.1.2:9000"))
			sessions[len(sessions)-1].want("the start")
		}
		for _, policy := range []string{"flow_hash a b", "ip_hash a b"} {
			if policy == "ip_hash a b" {
				config.policy = "lb_policy " + policy
				s.load(config)
				sessions = []*session{s.openSession("192.168.1.2:9000")}
				sessions[0].want("the reload")
			}
			s.kill()
			s.start(config)
			for _, session := range sessions {
				session.want("a kill under " + policy)
			}
		}
		config.policy = "lb_policy round_robin a b"
		s.load(config)
		s.kill()
		s.start(config)
		begun := time.Now()
		if err := sessions[0].echo("forgotten\n"); !errors.Is(err, syscall.ECONNRESET) || time.Since(begun) > time.Second {
			t.Errorf("under round_robin the client gets %v after %v, want a reset at once", err, time.Since(begun))
		}
	})
}
