package caddymodule

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

func TestStatusOfDatapath(t *testing.T) {
	const explanation = "The kernel data path cannot be used"
	s := vnicbridge.Status{Datapath: vnicbridge.DatapathUserspace, Flows: 3, MaxFlows: 64}
	if text := statusText(t, s); !strings.HasPrefix(text, "Data path userspace, 3 of 64 flows.\n") || strings.Contains(text, explanation) {
		t.Errorf("userspace was asked for, and the status says\n%s", text)
	}
	s.DatapathReason = "CAP_BPF is missing"
	if text := statusText(t, s); !strings.Contains(text, explanation+": CAP_BPF is missing.\n") {
		t.Errorf("userspace is the fallback, and the status says\n%s", text)
	}
}

func TestStatusOfPeers(t *testing.T) {
	const heading = "SEES"
	segments := map[string]vnicbridge.SegmentStatus{"a": {}, "front": {}}
	if text := statusText(t, vnicbridge.Status{Segments: segments}); strings.Contains(text, heading) {
		t.Errorf("without peers there is a table of them:\n%s", text)
	}
	segments["front"] = vnicbridge.SegmentStatus{Peers: map[string]netip.Addr{"a": netip.MustParseAddr("192.168.40.220")}}
	text := statusText(t, vnicbridge.Status{Segments: segments})
	if strings.Count(text, heading) != 1 || !regexp.MustCompile(`(?m)^front +a +192\.168\.40\.220$`).MatchString(text) {
		t.Errorf("the front sees a under its alias, and the status says\n%s", text)
	}
}

func statusText(t *testing.T, s vnicbridge.Status) string {
	t.Helper()
	var text strings.Builder
	if err := writeStatus(&text, s); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
