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

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/kernel"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

func init() { flowBytes["kernel"] = testMapsOfFlows }

// testMapsOfFlows asks the kernel what the maps take that are set aside for flows.
func testMapsOfFlows(t *testing.T) {
	const flows = config.DefaultMaxFlows
	k, err := kernel.New(kernel.Options{
		MaxFlows: flows, Extras: flow.Extras{Wide: true, Named: true}, Open: new(rules.OpenPorts), Handshakes: new(flow.Handshakes), Clock: func() int64 { return 0 },
		Log: slog.New(slog.DiscardHandler),
	}, hookMemory)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	total := 0
	for _, name := range []string{bpf.BridgeMapBuckets, bpf.BridgeMapRecords, bpf.BridgeMapAnswers, bpf.BridgeMapSpare} {
		bytes := memoryOf(t, k.Maps[name])
		t.Logf("%s: %.1f bytes a flow", name, float64(bytes)/flows)
		total += bytes
	}
	if each := float64(total) / flows; each > flow.FlowBytes {
		t.Errorf("a flow costs %.1f bytes, more than the %d stated", each, flow.FlowBytes)
	}
	if each := float64(memoryOf(t, k.Maps[bpf.BridgeMapWide])) / flows; each > flow.WideBytes {
		t.Errorf("the addresses of an IPv6 flow cost %.1f bytes, more than the %d stated", each, flow.WideBytes)
	}
}

// What the pages say that the flow table takes is what it takes.
func TestMemoryInThePages(t *testing.T) {
	megabytes := func(flows int) string { return fmt.Sprintf("%.0f MB", float64(flows*flow.FlowBytes)/1e6) }
	for _, page := range []string{"../README.md", "../docs/installing.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{megabytes(config.DefaultMaxFlows), "1,048,576 flows", "`max_flows 65536`", megabytes(65536)} {
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
