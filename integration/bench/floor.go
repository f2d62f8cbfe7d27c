package main

import (
	"fmt"
	"math"
	"strings"
)

// floor is a promise of the project: a bound for a median.
type floor struct {
	what  string
	op    string // how the measured figure compares to the bound: ≥, > or ≤
	bound float64
	goal  float64 // a better value to aim at; 0: none
	count bool    // the figure is a count, not a ratio
	// measured returns the figure of each round, and a remark. Without values, the figure
	// was not measured.
	measured func(*Result) (values []float64, remark string)
}

// ours is the variant that must reach the floors.
const ours = "kernel"

// oursInNetns is the same with a segment in a network namespace of its own.
const oursInNetns = "kernel-netns"

// oursWithBans is the same with 100,000 bans of others.
const oursWithBans = "kernel-bans"

// oursWithLimits is the same with limits that are not reached.
const oursWithLimits = "kernel-limits"

// floors has all floors, in the order of the report.
var floors = []floor{
	ratioFloor("keep-alive requests/s, to direct", bridgeSuite, "keepalive", baseline, 0.97, 0.99),
	ratioFloor("connection per request, to direct", bridgeSuite, "perrequest", baseline, 0.93, 0.97),
	ratioFloor("1 MiB files, to direct", bridgeSuite, "bulk", baseline, 0.95, 0.99),
	ratioFloor("iperf3, client to server, to direct", bridgeSuite, "iperf_up", baseline, 0.95, 0.99),
	ratioFloor("iperf3, server to client, to direct", bridgeSuite, "iperf_down", baseline, 0.95, 0.99),
	{what: "TCP round trip p50, to direct", op: "≤", bound: 1.05, measured: ratio(bridgeSuite, ours, "tcp_p50", baseline)},
	{what: "TCP round trip p50 on two cores, to direct", op: "≤", bound: 1.05, measured: ratio(bridgeSuite, ours, "apart_tcp_p50", baseline)},
	aheadFloor(bridgeSuite, "nftables"), aheadFloor(bridgeSuite, "haproxy"), aheadFloor(bridgeSuite, "nginx"),
	aheadFloor(bridgeSuite6, "nftables"), aheadFloor(bridgeSuite6, "haproxy"), aheadFloor(bridgeSuite6, "nginx"),
	familyFloor("one segment", bridgeSuite6, bridgeSuite), familyFloor("path groups", groupsSuite6, groupsSuite),
	netnsFloor("keep-alive requests/s, to direct", "keepalive", 0.98),
	netnsFloor("connection per request, to direct", "perrequest", 0.95),
	costFloor("on every row as without 100,000 bans", oursWithBans),
	costFloor("on every row as without limits", oursWithLimits),
	tableFloor("datagrams/s over 1,000 flows of 1,000,000 in the table, to one flow alone", busyMetric(1e6)),
	tableFloor("datagrams/s over 1,000,000 flows in turn, to one flow alone", packetsMetric(1e6)),
	{what: "bytes of memory per flow, of 1,000,000", op: "≤", bound: 256, count: true,
		measured: func(r *Result) ([]float64, string) {
			return r.suite(tableSuite).figures(ours, memoryMetric(1e6)), ""
		}},
	captureFloor("kernel", "keepalive"), captureFloor("kernel", "perrequest"), captureFloor("kernel", "iperf_down"),
	captureFloor("userspace", "keepalive"), captureFloor("userspace", "perrequest"), captureFloor("userspace", "iperf_down"),
	{what: "datagrams of an established flow lost in 100 reloads under load", op: "≤", bound: 0, count: true, measured: lost},

	groupFloor("stock reverse_proxy through the VNICs, keep-alive, to stock Caddy", "stock-vnic", "keepalive", "caddy", 0.95),
	groupFloor("stock reverse_proxy through the VNICs, connection per request, to stock Caddy", "stock-vnic", "perrequest", "caddy", 0.95),
	groupFloor("stock reverse_proxy through the VNICs, 1 MiB files, to stock Caddy", "stock-vnic", "bulk", "caddy", 0.95),
	groupFloor("vnic_proxy, keep-alive, to stock Caddy", ours, "keepalive", "caddy", 1.8),
	groupFloor("vnic_proxy, keep-alive, to nginx", ours, "keepalive", "nginx", 0.40),
	groupFloor("vnic_proxy, connection per request, to stock Caddy", ours, "perrequest", "caddy", 1.6),
	groupFloor("vnic_proxy, 1 MiB files, to stock Caddy", ours, "bulk", "caddy", 2),
	groupFloor("vnic_proxy, 1 MiB files, to nginx", ours, "bulk", "nginx", 2),
	aheadOfCaddy("HTTPS, HTTP/1.1, keep-alive", "https_keepalive"),
	aheadOfCaddy("HTTPS, connection per request", "https_perrequest"),
	aheadOfCaddy("HTTPS, HTTP/1.1, 1 MiB files", "https_bulk"),
	aheadOfCaddy("HTTPS, HTTP/2, requests/s", "h2_keepalive"),
	aheadOfCaddy("HTTPS, HTTP/2, 1 MiB files", "h2_bulk"),

	nameFloor("HTTPS, keep-alive, to direct", "https_keepalive", baseline, 0.95),
	nameFloor("HTTPS, 1 MiB files, to direct", "https_bulk", baseline, 0.95),
	nameFloor("TLS handshakes/s, to direct", "https_perrequest", baseline, 0.90),
	nameFloor("connection per request, to direct", "perrequest", baseline, 0.60),
	nameFloor("HTTP/3, keep-alive, to direct", "http3_keepalive", baseline, 0.95),
	nameFloor("HTTPS, keep-alive, to haproxy", "https_keepalive", "haproxy", 1.5),
	nameFloor("HTTPS, keep-alive, to nginx", "https_keepalive", "nginx", 1.5),
}

func ratioFloor(what, suite, metric, to string, bound, goal float64) floor {
	return floor{what: what, op: "≥", bound: bound, goal: goal, measured: ratio(suite, ours, metric, to)}
}

func netnsFloor(what, metric string, bound float64) floor {
	return floor{what: "netns: " + what, op: "≥", bound: bound, measured: ratio(bridgeSuite, oursInNetns, metric, baseline)}
}

// costFloor bounds what an option costs. It leaves out the CPU time of Caddy's process, which is
// too small on the kernel path to be compared.
func costFloor(what, variant string) floor {
	return everyRow(floor{what: what, op: "≥", bound: 0.97}, bridgeSuite, func(r *Result, m Metric) []float64 {
		if m.Name == "plane_cpu" {
			return nil
		}
		return r.suite(bridgeSuite).advantages(variant, ours, m)
	})
}

func groupFloor(what, variant, metric, to string, bound float64) floor {
	return floor{what: what, op: "≥", bound: bound, measured: ratio(groupsSuite, variant, metric, to)}
}

func nameFloor(what, metric, to string, bound float64) floor {
	return floor{what: "by host name: " + what, op: "≥", bound: bound, measured: ratio(namesSuite, ours, metric, to)}
}

// tableFloor bounds what a full flow table costs.
func tableFloor(what, metric string) floor {
	return floor{what: what, op: "≥", bound: 0.90,
		measured: func(r *Result) ([]float64, string) {
			return r.suite(tableSuite).quotients(ours, metric, ours, packetsMetric(1)), ""
		}}
}

// captureFloor bounds what a capture of all frames costs.
func captureFloor(variant, metric string) floor {
	what := map[string]string{"keepalive": "keep-alive", "perrequest": "connection per request", "iperf_down": "iperf3, server to client"}[metric]
	return floor{what: what + " during a capture, to before, " + variant, op: "≥", bound: 0.95,
		measured: func(r *Result) ([]float64, string) {
			return r.suite(bridgeSuite).quotients(variant, "captured_"+metric, variant, "uncaptured_"+metric), ""
		}}
}

func aheadOfCaddy(what, metric string) floor {
	return floor{what: "vnic_proxy, " + what + ", to stock Caddy", op: ">", bound: 1, measured: ratio(groupsSuite, ours, metric, "caddy")}
}

func ratio(suite, variant, metric, to string) func(*Result) ([]float64, string) {
	return func(r *Result) ([]float64, string) { return r.suite(suite).ratios(variant, to, metric), "" }
}

// aheadFloor demands to be better than another variant in every metric of a suite that both
// have.
func aheadFloor(suite, other string) floor {
	what := "on every row ahead of " + other
	if suite == bridgeSuite6 {
		what += ", over IPv6"
	}
	return everyRow(floor{what: what, op: ">", bound: 1}, suite, func(r *Result, m Metric) []float64 {
		return r.suite(suite).advantages(ours, other, m)
	})
}

// familyFloor demands that every ratio to direct over IPv6 is hardly worse than the same ratio
// over IPv4.
func familyFloor(what, suite6, suite4 string) floor {
	f := floor{what: "on every row over IPv6 as over IPv4, to direct, " + what, op: "≥", bound: 0.97}
	return everyRow(f, suite6, func(r *Result, m Metric) (values []float64) {
		in4 := r.suite(suite4).advantages(ours, baseline, m)
		for i, in6 := range r.suite(suite6).advantages(ours, baseline, m) {
			if i < len(in4) {
				values = append(values, in6/in4[i])
			}
		}
		return values
	})
}

// everyRow makes a floor that must hold for every metric of a suite. The measured figure is
// that of the worst metric; the remark names the metrics that do not hold.
func everyRow(f floor, suite string, row func(*Result, Metric) []float64) floor {
	f.measured = func(r *Result) (worst []float64, remark string) {
		least, rows := math.Inf(1), 0
		var short []string
		for _, m := range r.suite(suite).info().metrics {
			values := row(r, m)
			spread, ok := spreadOf(values)
			if !ok {
				continue
			}
			rows++
			if !f.holds(spread.Median, f.bound) {
				short = append(short, m.Title)
			}
			if spread.Median < least {
				least, worst = spread.Median, values
			}
		}
		remark = fmt.Sprintf("the worst of %d rows", rows)
		if len(short) > 0 {
			remark += "; not so: " + strings.Join(short, "; ")
		}
		return worst, remark
	}
	return f
}

// lost returns how many datagrams of an established flow were lost, for each round with at
// least 100 reloads.
func lost(r *Result) (values []float64, remark string) {
	s := r.suite(bridgeSuite)
	for i, reloads := range s.figures(ours, reloadsDone) {
		if reloads >= 100 {
			values = append(values, s.figures(ours, reloadMissing)[i])
			remark = fmt.Sprintf("of %s", grouped(int64(s.figures(ours, reloadSent)[i])))
		}
	}
	return values, remark
}

// verdict is a floor with the measured figure, in words.
type verdict struct {
	floor             string
	required, got     string
	measured, held    bool
	goalRequired, met string // empty: no goal
}

// verdicts judges a result by all floors.
func verdicts(r *Result) (all []verdict) {
	for _, f := range floors {
		all = append(all, f.judge(r))
	}
	return all
}

func (f floor) judge(r *Result) verdict {
	v := verdict{floor: f.what, required: f.op + " " + compact(f.bound), got: "–"}
	values, remark := f.measured(r)
	spread, ok := spreadOf(values)
	if f.goal != 0 {
		v.goalRequired = f.op + " " + compact(f.goal)
	}
	if !ok {
		return v
	}
	v.measured, v.held = true, f.holds(spread.Median, f.bound)
	v.got = spread.ratio()
	if f.count {
		v.got = spread.count()
	}
	if remark != "" {
		v.got += ", " + remark
	}
	if f.goal != 0 && f.holds(spread.Median, f.goal) {
		v.met = "reached"
	}
	return v
}

func (f floor) holds(figure, bound float64) bool {
	switch f.op {
	case "≤":
		return figure <= bound
	case ">":
		return figure > bound
	default:
		return figure >= bound
	}
}

// String is the verdict in a word or two.
func (v verdict) String() string {
	switch {
	case !v.measured:
		return "not measured"
	case v.held && v.met != "":
		return "held, goal reached"
	case v.held:
		return "held"
	default:
		return "not reached"
	}
}
