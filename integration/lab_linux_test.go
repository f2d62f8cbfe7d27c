package integration_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/gopacket/pcapgo"

	caddyvnic "github.com/caddy-vnic/caddy-vnic"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// TestLab plays the paper in this process, as root.
func TestLab(t *testing.T) {
	var report bytes.Buffer
	dir := t.TempDir()
	err := paper.Play(t.Context(), paper.Options{
		Output: &report, Pings: 3, Captures: dir, Example: caddyvnic.CaddyfileExample, CaddyEnv: []string{asCaddy},
	})
	t.Logf("%s", report.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, figure := range []string{"Fig-4 ", "Fig-10", "Fig-11", "Fig-12", "Fig-13", "Fig-14", "Fig-15", "Fig-16", "Fig-17", "Fig-18", "Fig-19"} {
		if !strings.Contains(report.String(), "\n"+figure) {
			t.Errorf("the report lacks %s", figure)
		}
	}
	for line := range strings.Lines(report.String()) {
		if n := utf8.RuneCountInString(line) - 1; n > 100 && !strings.Contains(line, dir) {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	checkCapture(t, filepath.Join(dir, "server.pcapng"), "nic0", "vnic-A", "vnic-B")
	checkCapture(t, filepath.Join(dir, "router.pcapng"), "wan")
	checkCapture(t, filepath.Join(dir, "fig19.pcapng"), "nic0", "vnic-A", "nic1", "vnic-B")
	checkCapture(t, filepath.Join(dir, "fig18.pcapng"), "nic0", "vnic-A", "vnic-B", "vnic-F")
	if left, _ := filepath.Glob("/run/netns/vniclab-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// checkCapture reads a capture as Wireshark would: the interfaces in order, and
// at least one frame from each.
func checkCapture(t *testing.T, path string, devices ...string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	frames := make([]int, len(devices))
	for {
		_, info, err := reader.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		frames[info.InterfaceIndex]++
	}
	for i, device := range devices {
		ifi, err := reader.Interface(i)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if ifi.Name != device || frames[i] == 0 {
			t.Errorf("%s: interface %d is %s with %d frames, want %s with some", path, i, ifi.Name, frames[i], device)
		}
	}
}
