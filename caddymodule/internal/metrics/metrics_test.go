package metrics

import (
	"encoding/json"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// sample returns a status in which all values differ.
func sample() vnicbridge.Status {
	counters := func(n uint64) vnicbridge.Counters {
		return vnicbridge.Counters{
			Flows: int(n), NewFlows: n + 1, Packets: vnicbridge.Traffic{From: n + 2, To: n + 3}, Bytes: vnicbridge.Traffic{From: n + 4, To: n + 5},
			Drops: map[string]uint64{"no_segment": n + 6},
		}
	}
	return vnicbridge.Status{
		Datapath: config.DatapathKernel, Flows: 7, MaxFlows: 64,
		Segments: map[string]vnicbridge.SegmentStatus{
			"a": {Health: vnicbridge.HealthStatus{Healthy: true}, Counters: counters(100)},
			"b": {State: config.Draining, Health: vnicbridge.HealthStatus{Reason: "refused"}, Counters: counters(200)},
		},
		Bridges: map[string]vnicbridge.BridgeStatus{"lan": {
			Up: true, Failover: &vnicbridge.FailoverStatus{RoleStatus: vnicbridge.RoleStatus{State: vnicbridge.BridgeStandsBy, Fit: true}}, Conflicts: 309, FlowsByName: map[string]uint64{"a.example.com": 307, "": 308}, Counters: counters(300),
			Gateways: []vnicbridge.GatewayStatus{{Address: netip.MustParseAddr("192.168.1.1")}, {Address: netip.MustParseAddr("fe80::1"), Silent: true}},
		}},
	}
}

func TestMetrics(t *testing.T) {
	got := gathered(t, sample())
	for metric, want := range map[string]float64{
		`caddy_vnic_datapath_info{datapath="kernel"}`:                                  1,
		`caddy_vnic_flows{}`:                                                           7,
		`caddy_vnic_flows_limit{}`:                                                     64,
		`caddy_vnic_segment_healthy{segment="a"}`:                                      1,
		`caddy_vnic_segment_healthy{segment="b"}`:                                      0,
		`caddy_vnic_segment_state{segment="a",state="active"}`:                         1,
		`caddy_vnic_segment_state{segment="b",state="active"}`:                         0,
		`caddy_vnic_segment_state{segment="b",state="draining"}`:                       1,
		`caddy_vnic_segment_flows{segment="a"}`:                                        100,
		`caddy_vnic_segment_new_flows_total{segment="a"}`:                              101,
		`caddy_vnic_segment_packets_total{direction="from_segment",segment="a"}`:       102,
		`caddy_vnic_segment_packets_total{direction="to_segment",segment="b"}`:         203,
		`caddy_vnic_segment_bytes_total{direction="from_segment",segment="a"}`:         104,
		`caddy_vnic_segment_bytes_total{direction="to_segment",segment="b"}`:           205,
		`caddy_vnic_segment_dropped_packets_total{reason="no_segment",segment="b"}`:    206,
		`caddy_vnic_segment_dropped_packets_total{reason="port_not_open",segment="b"}`: 0,
		`caddy_vnic_bridge_link_up{bridge="lan"}`:                                      1,
		`caddy_vnic_bridge_gateway_silent{bridge="lan",gateway="192.168.1.1"}`:         0,
		`caddy_vnic_bridge_state{bridge="lan",state="active"}`:                         0,
		`caddy_vnic_bridge_state{bridge="lan",state="standby"}`:                        1,
		`caddy_vnic_bridge_fit{bridge="lan"}`:                                          1,
		`caddy_vnic_bridge_conflicts_total{bridge="lan"}`:                              309,
		`caddy_vnic_bridge_gateway_silent{bridge="lan",gateway="fe80::1"}`:             1,
		`caddy_vnic_bridge_flows_by_name_total{bridge="lan",rule="a.example.com"}`:     307,
		`caddy_vnic_bridge_flows_by_name_total{bridge="lan",rule=""}`:                  308,
		`caddy_vnic_bridge_flows{bridge="lan"}`:                                        300,
		`caddy_vnic_bridge_new_flows_total{bridge="lan"}`:                              301,
		`caddy_vnic_bridge_packets_total{bridge="lan",direction="from_network"}`:       302,
		`caddy_vnic_bridge_bytes_total{bridge="lan",direction="to_network"}`:           305,
		`caddy_vnic_bridge_dropped_packets_total{bridge="lan",reason="no_segment"}`:    306,
	} {
		if value, ok := got[metric]; !ok || value != want {
			t.Errorf("%s is %v (there: %v), want %v", metric, value, ok, want)
		}
	}
	if n := len(gathered(t, vnicbridge.Status{})); n > 0 {
		t.Errorf("%d metrics before a configuration is in force", n)
	}
}

// gathered returns the metrics of a status, by name and labels.
func gathered(t *testing.T, s vnicbridge.Status) map[string]float64 {
	t.Helper()
	values := make(map[string]float64)
	families, err := registry(t, s).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, label := range m.Label {
				labels = append(labels, label.GetName()+`="`+label.GetValue()+`"`)
			}
			values[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func registry(t *testing.T, s vnicbridge.Status) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(collector{func() vnicbridge.Status { return s }}); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMetricNames checks that the names follow Prometheus's conventions.
func TestMetricNames(t *testing.T) {
	families, err := registry(t, sample()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestMetricsAreRegisteredOnce checks that a second registration does nothing. Caddy may make a
// module twice.
func TestMetricsAreRegisteredOnce(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	for range 2 {
		if err := Register(r, sample); err != nil {
			t.Fatal(err)
		}
	}
	taken := prometheus.NewPedanticRegistry()
	taken.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "caddy_vnic_flows", Help: "another's"}))
	if Register(taken, sample) == nil {
		t.Error("another's metric of the same name is no error")
	}
}

// metricNames returns the names of all metrics.
func metricNames(t *testing.T) (names []string) {
	t.Helper()
	families, err := registry(t, sample()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names = append(names, f.GetName())
	}
	return names
}

// TestMetricsAreDocumented checks that the documentation's table has exactly the metrics, with
// their labels.
func TestMetricsAreDocumented(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "../../../docs/operating.md"), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(caddy_vnic_[a-z_]+)` \\|([^|]*)\\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, row[1])
		for metric := range gathered(t, sample()) {
			name, labels, _ := strings.Cut(metric, "{")
			if name != row[1] {
				continue
			}
			var has []string
			for _, label := range regexp.MustCompile(`([a-z]+)="`).FindAllStringSubmatch(labels, -1) {
				has = append(has, "`"+label[1]+"`")
			}
			said := strings.Fields(strings.ReplaceAll(row[2], ",", ""))
			slices.Sort(said)
			if !slices.Equal(said, has) {
				t.Errorf("%s has the labels %q, and the documentation says %q", name, has, said)
			}
		}
	}
	for _, example := range examples.On(t, "docs/operating.md") {
		if example.Section == "Metrics" {
			for _, name := range regexp.MustCompile(`caddy_[a-z_]+`).FindAllString(example.Text, -1) {
				if !slices.Contains(documented, name) {
					t.Errorf("%s: there is no metric %s", example, name)
				}
			}
		}
	}
	slices.Sort(documented)
	if names := metricNames(t); !slices.Equal(documented, names) {
		t.Errorf("documented are\n%q, and there are\n%q", documented, names)
	}
}

// TestGrafanaDashboard checks that the Grafana dashboard uses only metrics that exist, and
// shows all of them.
func TestGrafanaDashboard(t *testing.T) {
	var dashboard struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal([]byte(read(t, "../../../packaging/grafana/caddy-vnic.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	names := metricNames(t)
	used := make(map[string]bool)
	ids := make(map[int]bool)
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] {
			t.Errorf("panel %q: a second panel %d", panel.Title, panel.ID)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			for _, name := range regexp.MustCompile(`\bcaddy_[a-z_]+`).FindAllString(target.Expr, -1) {
				used[name] = true
				if !slices.Contains(names, name) {
					t.Errorf("panel %q: there is no metric %s", panel.Title, name)
				}
			}
		}
	}
	for _, name := range names {
		if !used[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// TestAlertNames checks that the alerts use only metrics that exist, and that each alert has a
// test.
func TestAlertNames(t *testing.T) {
	rules, tests := read(t, "../../../packaging/prometheus/caddy-vnic.rules.yml"), read(t, "../../../packaging/prometheus/caddy-vnic.test.yml")
	names := metricNames(t)
	for _, name := range regexp.MustCompile(`\bcaddy_vnic_[a-z_]+`).FindAllString(rules, -1) {
		if !slices.Contains(names, name) {
			t.Errorf("there is no metric %s", name)
		}
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(rules, -1)
	if len(alerts) == 0 {
		t.Error("there are no alerts")
	}
	for _, alert := range alerts {
		if !regexp.MustCompile(`alertname: ` + alert[1] + `\b.*\n +exp_alerts:`).MatchString(tests) {
			t.Errorf("no test sees the alert %s", alert[1])
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
