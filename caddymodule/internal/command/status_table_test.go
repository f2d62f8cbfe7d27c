package command

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func TestStatusOfDatapath(t *testing.T) {
	const explanation = "The kernel data path cannot be used"
	s := vnicbridge.Status{Datapath: config.DatapathUserspace, Flows: 3, MaxFlows: 64}
	if text := statusText(t, s); !strings.HasPrefix(text, "Data path userspace, 3 of 64 flows, caddy-vnic v0.1.0.\n") || strings.Contains(text, explanation) {
		t.Errorf("userspace was asked for, and the status says\n%s", text)
	}
	s.DatapathReason = "CAP_BPF is missing"
	if text := statusText(t, s); !strings.Contains(text, explanation+": CAP_BPF is missing.\n") {
		t.Errorf("userspace is the fallback, and the status says\n%s", text)
	}
}

// TestStatusOfOverrides checks that a table of its own has exactly what differs from the
// configuration.
func TestStatusOfOverrides(t *testing.T) {
	const heading = "SET BY HAND"
	a := vnicbridge.SegmentStatus{Weight: 2, ConfiguredWeight: 2}
	lan := vnicbridge.BridgeStatus{Policy: &config.Policy{Policy: config.PolicyRoundRobin, Segments: []string{"a", "b"}}}
	s := vnicbridge.Status{
		Segments: map[string]vnicbridge.SegmentStatus{"a": a, "b": a},
		Bridges:  map[string]vnicbridge.BridgeStatus{"lan": lan},
	}
	if text := statusText(t, s); strings.Contains(text, heading) {
		t.Errorf("nothing differs, and the status says\n%s", text)
	}
	lan.SwitchedTo, a.Weight, a.State = "b", 5, config.Draining
	s.Segments["a"], s.Bridges["lan"] = a, lan
	text := statusText(t, s)
	for _, want := range []string{"bridge lan +switched to b +round_robin a b", "segment a +draining +active", "segment a +weight 5 +weight 2"} {
		if !regexp.MustCompile("(?m)^" + want + "$").MatchString(text) {
			t.Errorf("the status lacks %q:\n%s", want, text)
		}
	}
	if strings.Count(text, heading) != 1 || strings.Contains(text, "segment b") {
		t.Errorf("the status says\n%s", text)
	}
}

func TestStatusOfLimits(t *testing.T) {
	const heading = "LIMITS"
	segments := map[string]vnicbridge.SegmentStatus{"a": {}, "b": {}}
	if text := statusText(t, vnicbridge.Status{Segments: segments}); strings.Contains(text, heading) {
		t.Errorf("without limits there is a table of them:\n%s", text)
	}
	a := vnicbridge.SegmentStatus{Limits: config.Limits{Flows: 100, FlowsPerClient: 10, New: 5, Rate: 2_500_000, Burst: 64 << 10}, Refused: 7}
	a.Flows = 99
	segments["a"] = a
	text := statusText(t, vnicbridge.Status{Segments: segments})
	if strings.Count(text, heading) != 1 || !regexp.MustCompile(`(?m)^a +99 +7 +rate 2.5Mbit/s 64KiB, flows 100, flows_per_client 10, new 5/s$`).MatchString(text) {
		t.Errorf("segment a has limits, and the status says\n%s", text)
	}
}

func TestStatusOfRules(t *testing.T) {
	rules := []config.Rule{
		{Segment: "b", Clients: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}, Ports: []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}}},
		{Segment: "a", Protocols: []config.Protocol{config.ICMP}},
		{LBPolicy: &config.Policy{Policy: config.PolicyFirst, Segments: []string{"a", "b"}}, Names: []string{"a.example.com"}},
		{Segment: "a", Names: []string{"a", "b", "c", "d", "e"}, Ports: []config.PortRange{{Protocol: config.TCP, First: 8443, Last: 8443}}},
	}
	text := statusText(t, vnicbridge.Status{Bridges: map[string]vnicbridge.BridgeStatus{"lan": {Steer: rules}}})
	for _, want := range []string{
		`b +10\.20\.0\.0/16 +- +tcp/80 +-\nlan +a +- +- +- +icmp`,
		`first a b +- +a\.example\.com +tcp/80 tcp/443 udp/443 +-`,
		`a +- +a b c and 2 more +tcp/8443 +-`,
	} {
		if !regexp.MustCompile(`(?m)^lan +` + want + `$`).MatchString(text) {
			t.Errorf("the status lacks %s:\n%s", want, text)
		}
	}
}

func TestStatusOfPeers(t *testing.T) {
	const heading = "SEES"
	segments := map[string]vnicbridge.SegmentStatus{"a": {}, "front": {}}
	if text := statusText(t, vnicbridge.Status{Segments: segments}); strings.Contains(text, heading) {
		t.Errorf("without peers there is a table of them:\n%s", text)
	}
	segments["front"] = vnicbridge.SegmentStatus{Peers: map[string][]netip.Addr{"a": {netip.MustParseAddr("192.168.40.220"), netip.MustParseAddr("fd00:40::ffe3")}}}
	text := statusText(t, vnicbridge.Status{Segments: segments})
	if strings.Count(text, heading) != 1 || !regexp.MustCompile(`(?m)^front +a +192\.168\.40\.220 fd00:40::ffe3$`).MatchString(text) {
		t.Errorf("the front sees a under its aliases, and the status says\n%s", text)
	}
}

// Row F14: the status shows the gateways, the aliases and the candidates of each family.
func TestStatusOfFamilies(t *testing.T) {
	lan := vnicbridge.BridgeStatus{
		Addresses:  []netip.Prefix{netip.MustParsePrefix("192.168.1.2/24")},
		Gateways:   []vnicbridge.GatewayStatus{{Address: netip.MustParseAddr("192.168.1.1"), MAC: config.MAC{2, 0, 0, 0, 0, 1}}},
		Candidates: map[config.Family][]string{config.IPv4: {"a", "b"}},
	}
	four := netip.MustParsePrefix("192.168.50.0/24")
	a := vnicbridge.SegmentStatus{Aliases: []config.AddrRange{{First: four.Addr(), Last: config.LastAddr(four)}}}
	s := vnicbridge.Status{Bridges: map[string]vnicbridge.BridgeStatus{"lan": lan}, Segments: map[string]vnicbridge.SegmentStatus{"a": a}}
	if text := statusText(t, s); strings.Contains(text, "GO TO") || !strings.Contains(text, " 192.168.1.1 (02:00:00:00:00:01)  ") {
		t.Errorf("there is one family, and the status says\n%s", text)
	}
	lan.Gateways[0].Silent = true
	lan.Gateways = append(lan.Gateways, vnicbridge.GatewayStatus{Address: netip.MustParseAddr("fe80::1")})
	lan.Candidates[config.IPv6] = []string{}
	six := netip.MustParsePrefix("fd00:50::/64")
	a.Aliases = append(a.Aliases, config.AddrRange{First: six.Addr(), Last: config.LastAddr(six)})
	s.Bridges["lan"], s.Segments["a"] = lan, a
	text := statusText(t, s)
	for _, want := range []string{
		`192\.168\.1\.1 \(02:00:00:00:00:01, silent\) fe80::1 \(not resolved\) `,
		`(?m)^BRIDGE +NEW FLOWS +GO TO\nlan +IPv4 +a b\nlan +IPv6 +-$`,
		` 192\.168\.50\.0-192\.168\.50\.255 fd00:50::-fd00:50::ffff:ffff:ffff:ffff `,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the status lacks %s:\n%s", want, text)
		}
	}
}

func statusText(t *testing.T, s vnicbridge.Status) string {
	t.Helper()
	var text strings.Builder
	writeStatus(screen{Writer: &text}, api.Status{Version: "v0.1.0", Status: s}, false)
	return text.String()
}

func TestStatusOfHealth(t *testing.T) {
	const heading = "UNHEALTHY"
	segments := map[string]vnicbridge.SegmentStatus{"a": {Health: vnicbridge.HealthStatus{Healthy: true}}}
	if text := statusText(t, vnicbridge.Status{Segments: segments}); strings.Contains(text, heading) || !regexp.MustCompile(`(?m)^a +active +healthy `).MatchString(text) {
		t.Errorf("a is healthy, and the status says\n%s", text)
	}
	since := time.Date(2015, 7, 1, 9, 30, 0, 0, time.Local)
	segments["b"] = vnicbridge.SegmentStatus{Health: vnicbridge.HealthStatus{Reason: "connection refused", Since: since}}
	text := statusText(t, vnicbridge.Status{Segments: segments})
	if strings.Count(text, heading) != 1 || !regexp.MustCompile(`(?m)^b +2015-07-01 09:30:00 +connection refused$`).MatchString(text) {
		t.Errorf("b is unhealthy, and the status says\n%s", text)
	}
}
