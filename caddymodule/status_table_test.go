package caddymodule

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

func TestStatusOfPeers(t *testing.T) {
	const heading = "SEES"
	segments := map[string]vnicbridge.SegmentStatus{"a": {}, "front": {}}
	if text := statusText(t, segments); strings.Contains(text, heading) {
		t.Errorf("without peers there is a table of them:\n%s", text)
	}
	segments["front"] = vnicbridge.SegmentStatus{Peers: map[string]netip.Addr{"a": netip.MustParseAddr("192.168.40.220")}}
	text := statusText(t, segments)
	if strings.Count(text, heading) != 1 || !regexp.MustCompile(`(?m)^front +a +192\.168\.40\.220$`).MatchString(text) {
		t.Errorf("the front sees a under its alias, and the status says\n%s", text)
	}
}

func statusText(t *testing.T, segments map[string]vnicbridge.SegmentStatus) string {
	t.Helper()
	var text strings.Builder
	if err := writeStatus(&text, vnicbridge.Status{Segments: segments}); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
