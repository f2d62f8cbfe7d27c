package integration_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F4: Caddy's monotonic clock is days ahead of the kernel's, as in a container that
// was restored: programs carry, no flow ends early, and captures are of today.
func TestTimeNamespace(t *testing.T) {
	onEachAttachment(t, func(t *testing.T, datapath, kernel string) {
		s := newScene(t, paper.NetworkOptions{})
		s.onKernel(kernel)
		s.startDaysAhead(caddyfile{datapath: datapath, a: "ports any"})
		s.listen(s.Server, "192.168.50.1:9000", func(conn net.Conn) { io.Copy(conn, conn) })
		session := s.openSession("192.168.1.2:9000")
		session.want("the start")
		captureBothSides(t, s)
		for _, line := range s.tshark(filepath.Join(s.dir, "lan.pcapng"), "frame.time_epoch") {
			seconds, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
			if err != nil {
				t.Fatal(err)
			}
			if age := time.Since(time.UnixMicro(int64(seconds * 1e6))); age < 0 || age > time.Minute {
				t.Errorf("a captured frame is %v old", age)
			}
		}
		session.want("the capture")
		if status := s.status(); status.Segments["a"].NewFlows != 2 || status.Flows < 2 {
			t.Errorf("of the session's and the ping's flow %d are left, after %d", status.Flows, status.Segments["a"].NewFlows)
		}
	})
}

// startDaysAhead starts Caddy in a time namespace of its own.
func (s *scene) startDaysAhead(config caddyfile) {
	s.t.Helper()
	const ahead = 3 * 24 * 60 * 60 // s
	s.startBy(fmt.Sprintf("unshare --time --monotonic %d --boottime %[1]d", ahead), config)
	ours, err := os.Readlink("/proc/self/ns/time")
	if err != nil {
		s.t.Fatal(err)
	}
	caddys, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/time", s.caddy.Process().PID()))
	if err != nil || caddys == ours {
		s.t.Fatalf("Caddy is in the time namespace %s, as this test is (%v)", caddys, err)
	}
}
