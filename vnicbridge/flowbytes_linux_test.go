package vnicbridge

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

func init() { flowBytes["kernel"] = testMapsOfFlows }

// testMapsOfFlows asks the kernel what the maps take that are set aside for flows.
func testMapsOfFlows(t *testing.T) {
	const flows = DefaultMaxFlows
	k, err := newPath(pathOptions{
		maxFlows: flows, open: new(openPorts), handshakes: new(handshakes), clock: func() int64 { return 0 },
		log: slog.New(slog.DiscardHandler),
	}, hookMemory)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	total := 0
	for _, name := range []string{bpf.BridgeMapBuckets, bpf.BridgeMapRecords, bpf.BridgeMapAnswers, bpf.BridgeMapSpare} {
		bytes := memoryOf(t, k.maps[name])
		t.Logf("%s: %.1f bytes a flow", name, float64(bytes)/flows)
		total += bytes
	}
	if each := float64(total) / flows; each > FlowBytes {
		t.Errorf("a flow costs %.1f bytes, more than the %d stated", each, FlowBytes)
	}
}

// What the pages say that the flow table takes is what it takes.
func TestMemoryInThePages(t *testing.T) {
	megabytes := func(flows int) string { return fmt.Sprintf("%.0f MB", float64(flows*FlowBytes)/1e6) }
	for _, page := range []string{"../README.md", "../docs/installing.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{megabytes(DefaultMaxFlows), "1,048,576 flows", "`max_flows 65536`", megabytes(65536)} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q", page, want)
			}
		}
	}
}

// memoryOf is what a map takes of the kernel's memory (bpftool-map(8), "memlock").
func memoryOf(t *testing.T, m *ebpf.Map) int {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", m.FD()))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^memlock:\s*(\d+)$`).FindSubmatch(info)
	if found == nil {
		t.Fatalf("the kernel tells nothing of a map's memory:\n%s", info)
	}
	bytes, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
