package integration_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

const teachingPage = "docs/teaching.md"

// answers are what the commands of an exercise must show, because the answers say so.
var answers = map[string][]string{
	"1. An address that nobody has": {"192.168.1.2 dev wan lladdr b0:c7:45:f5:de:2d", "vnic-A ", "192.168.50.1/24"},
	"2. The four frames of an echo": {"4 frames, 0 dropped", "b0:c7:45:f5:de:2d > 00:24:a5:57:e6:e8", "192.168.50.1: ICMP echo request"},
	"3. The paper's routes":         {"192.168.50.0/24 via 192.168.50.1 dev vnic-A"},
	"4. Who serves?":                {"This is server-A", "Bridge lan gives new flows to segment b.", "This is server-B", "192.168.60."},
	"5. Two networks":               {"This is server-B", "nothing"},
	"6. One name, two segments":     {"This is server-A", "This is server-B", "front"},
}

// TestTeaching keeps the paper's network up as an ordinary user, with one figure that waits for
// Enter, and does the exercises of the page.
func TestTeaching(t *testing.T) {
	t.Parallel()
	lab := labCommand(t, nobody, "--only", "fig4", "--pause", "--keep", "paper")
	if err := os.Chown(lab.Dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	keys, err := lab.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	lab.Stderr = lab.Stdout
	if err := withTUN(t, 0o666, lab.Start); err != nil {
		t.Fatal(err)
	}
	report := readUntilText(t, output, "[Enter: go on]")
	if !strings.Contains(report, "\nFig-4 ") || strings.Contains(report, "Fig-10") {
		t.Errorf("the lab plays other figures than Fig-4:\n%s", report)
	}
	if _, err := io.WriteString(keys, "\n"); err != nil {
		t.Fatal(err)
	}
	summary, _ := readUntil(t, output, "The network paper is up")
	if !strings.Contains(summary, "All 4 checks agree") {
		t.Errorf("the summary is\n%s", summary)
	}
	for _, e := range examples.On(t, teachingPage) {
		said := classroom(t, lab.Dir, e.Runs(t))
		wantAll(t, e.Section, said, answers[e.Section])
	}
	if err := lab.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, output)
	if err := lab.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(lab.Dir, "lab-captures", "lab.pid")); !os.IsNotExist(err) {
		t.Errorf("the lab has ended, and its number is still there (%v)", err)
	}
}

// classroom runs the words of a page as an ordinary user, and returns what they print.
func classroom(t *testing.T, dir, words string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", words)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asCaddy, "HOME="+dir, fmt.Sprintf("PATH=%s:%s", dir, os.Getenv("PATH")))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody}
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", words, err, said)
	}
	return string(said)
}

// readUntilText reads up to a text, which need not end a line.
func readUntilText(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	var said strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(said.String(), text); {
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatalf("no %q in:\n%s", text, said.String())
		}
		said.Write(b)
	}
	return said.String()
}
