package command

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// run runs a command of `caddy vnic` at an instance that has this status and obeys, and returns
// what it writes.
func run(t *testing.T, s vnicbridge.Status, args ...string) (string, error) {
	t.Helper()
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == api.StatusPath {
			if err := json.NewEncoder(w).Encode(s); err != nil {
				t.Error(err)
			}
			return
		}
		io.WriteString(w, "{}")
	}))
	defer instance.Close()
	root, vnic := &cobra.Command{Use: "caddy"}, &cobra.Command{Use: "vnic"}
	root.AddCommand(vnic)
	Add(vnic, "")
	args = slices.Insert(slices.Clone(args), slices.Index(args, "vnic")+2, "--address", strings.TrimPrefix(instance.URL, "http://"))
	var text strings.Builder
	root.SetArgs(args)
	root.SetOut(&text)
	root.SetErr(io.Discard)
	err := root.Execute()
	return text.String(), err
}

// example is a status with two segments and a bridge.
func example() vnicbridge.Status {
	healthy := vnicbridge.HealthStatus{Healthy: true}
	return vnicbridge.Status{
		Segments: map[string]vnicbridge.SegmentStatus{
			"a": {Weight: 5, ConfiguredWeight: 1, Health: healthy, Interface: "vnic-a"},
			"b": {State: config.Stopped, Health: healthy, Interface: "vnic-b"},
			"c": {Health: vnicbridge.HealthStatus{Reason: "connection refused"}},
		},
		Bridges: map[string]vnicbridge.BridgeStatus{
			"lan": {Policy: &config.Policy{Policy: config.PolicyRoundRobin, Segments: []string{"a", "b"}}, NIC: "eth1"},
		},
	}
}

// TestOutcomes checks that commands say in words what they have done, and what stands in its way.
func TestOutcomes(t *testing.T) {
	for _, test := range []struct {
		args       string
		switchedTo string
		want       string
	}{
		{"drain b", "", "Segment b is stopped: no flow is left.\n"},
		{"stop b", "", "Segment b is stopped: no flow is left.\n"},
		{"start a", "", "Segment a is active and gets new flows.\n"},
		{"activate c", "", "Segment c is unhealthy and gets no new flows: connection refused.\n"},
		{"weight a 5", "", "Segment a has weight 5; the configuration has 1.\n"},
		{"weight --undo a", "", "Segment a has weight 5; the configuration has 1.\n"},
		{"switch lan a", "a", "Bridge lan gives new flows to segment a.\n"},
		{"switch lan b", "b", "Bridge lan gives new flows to segment b.\nBut segment b is stopped and gets no new flows. Until then the others of lb_policy take its place.\n"},
		{"switch --undo lan", "", "Bridge lan chooses by lb_policy again: round_robin a b.\n"},
		{"ban 203.0.113.7", "", "203.0.113.7 is banned, until unban.\n"},
		{"ban --for 1h --bridge lan 203.0.113.7 2001:db8::/64", "", "203.0.113.7 and 2001:db8::/64 are banned at bridge lan, for 1h0m0s.\n"},
		{"unban 203.0.113.7", "", "203.0.113.7 is no longer banned.\n"},
	} {
		s := example()
		lan := s.Bridges["lan"]
		lan.SwitchedTo = test.switchedTo
		s.Bridges["lan"] = lan
		if said, err := run(t, s, append([]string{"vnic"}, strings.Fields(test.args)...)...); err != nil || said != test.want {
			t.Errorf("%s: it says %q (%v), want %q", test.args, said, err, test.want)
		}
	}
}

// TestCompletion checks what the shell completes: names of the running instance, and never files.
func TestCompletion(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"drain ", "a b c"},
		{"status ", "a b c lan"},
		{"capture -w f ", "a b c lan"},
		{"exec ", "a b c"},
		{"switch ", "lan"},
		{"switch lan ", "a b"},
		{"switch nowhere ", ""},
		{"weight a ", ""},
		{"flows --segment ", "a b c"},
		{"flows --bridge ", "lan"},
		{"flows --state ", "half_open established closing"},
		{"flows --protocol ", "tcp udp icmp"},
		{"ban --bridge ", "lan"},
		{"ban ", ""},
	} {
		words := strings.Split(test.args, " ")
		said, err := run(t, example(), append([]string{"__complete", "vnic"}, words...)...)
		want := strings.ReplaceAll(test.want, " ", "\n")
		if want != "" {
			want += "\n"
		}
		if want += ":4\n"; err != nil || said != want {
			t.Errorf("%q completes to %q (%v), want %q", test.args, said, err, want)
		}
	}
}

// TestStatusOfOne checks that a name shows that segment or bridge alone, with all details.
func TestStatusOfOne(t *testing.T) {
	said, err := run(t, example(), "vnic", "status", "a")
	if err != nil || !strings.Contains(said, "SEGMENT    a\n") || !strings.Contains(said, "VNIC       vnic-a\n") || strings.Contains(said, "vnic-b") || strings.Contains(said, "lan") {
		t.Errorf("of segment a it says (%v)\n%s", err, said)
	}
	if said, err = run(t, example(), "vnic", "status", "lan"); err != nil || !strings.Contains(said, "BRIDGE     lan\n") || strings.Contains(said, "SEGMENT ") {
		t.Errorf("of bridge lan it says (%v)\n%s", err, said)
	}
	if said, err = run(t, example(), "vnic", "status", "--json", "b"); err != nil || !strings.Contains(said, `"vnic-b"`) || strings.Contains(said, `"vnic-a"`) {
		t.Errorf("the JSON of segment b is (%v)\n%s", err, said)
	}
	if _, err = run(t, example(), "vnic", "status", "x"); err == nil || err.Error() != `unknown segment "x": the configuration has a, b, c; its bridges are lan` {
		t.Errorf("of an unknown name it says %v", err)
	}
}

// TestExec checks that exec says why it cannot enter a segment.
func TestExec(t *testing.T) {
	s := example()
	b := s.Segments["b"]
	b.Netns = "no-such-namespace"
	s.Segments["b"] = b
	for _, test := range []struct{ segment, want string }{
		{"a", "segment a has no network namespace of its own"},
		{"b", "systemctl enable --now vnic-netns@no-such-namespace"},
		{"x", `unknown segment "x": the configuration has a, b, c`},
	} {
		if _, err := run(t, s, "vnic", "exec", test.segment, "--", "true"); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("exec %s: %v, want %q", test.segment, err, test.want)
		}
	}
}
