package main

import (
	"fmt"
	"slices"
)

// Metric is one figure that is measured for each variant in each round.
type Metric struct {
	Name  string // its key in the JSON
	Title string
	Unit  string
	Lower bool // less is better
}

// suiteInfo says what a suite measures of its variants.
type suiteInfo struct {
	name, title string
	metrics     []Metric // in the order of the report
}

// The suites' names.
const (
	bridgeSuite  = "bridge"
	bridgeSuite6 = "bridge6"
	tableSuite   = "table"
	groupsSuite  = "groups"
	groupsSuite6 = "groups6"
	namesSuite   = "names"
	namesSuite6  = "names6"
)

// suiteInfos has all suites, in the order of the report.
var suiteInfos = []suiteInfo{
	{bridgeSuite, "One segment behind the bridge", bridgeMetrics},
	{bridgeSuite6, "One segment behind the bridge, over IPv6", bridgeMetrics},
	{tableSuite, "A full flow table", tableMetrics()},
	{groupsSuite, "Groups by URL path", groupMetrics},
	{groupsSuite6, "Groups by URL path, over IPv6", groupMetrics},
	{namesSuite, "Segments by host name", nameMetrics},
	{namesSuite6, "Segments by host name, over IPv6", nameMetrics},
}

// Metrics that several suites have.
var (
	requestMetrics = []Metric{
		{Name: "keepalive", Title: "Requests/s, keep-alive", Unit: "requests/s"},
		{Name: "perrequest", Title: "Requests/s, connection each", Unit: "requests/s"},
	}
	bulkMetric = Metric{Name: "bulk", Title: "1 MiB files", Unit: "MB/s"}
	planeCPU   = Metric{Name: "plane_cpu", Title: "CPU of the data plane's process", Unit: "ms per 1000 requests", Lower: true}
	machineCPU = Metric{Name: "machine_cpu", Title: "CPU of the whole machine", Unit: "ms per 1000 requests", Lower: true}
)

var bridgeMetrics = slices.Concat(requestMetrics, []Metric{
	bulkMetric,
	{Name: "iperf_up", Title: "iperf3, client to server", Unit: "Gbit/s"},
	{Name: "iperf_down", Title: "iperf3, server to client", Unit: "Gbit/s"},
	{Name: "flows", Title: "New UDP flows/s", Unit: "flows/s"},
	{Name: "tcp_p50", Title: "TCP round trip, p50", Unit: "µs", Lower: true},
	{Name: "tcp_p99", Title: "TCP round trip, p99", Unit: "µs", Lower: true},
	{Name: "udp_p50", Title: "UDP round trip, p50", Unit: "µs", Lower: true},
	{Name: "udp_p99", Title: "UDP round trip, p99", Unit: "µs", Lower: true},
	{Name: "apart_tcp_p50", Title: "TCP round trip on two cores, p50", Unit: "µs", Lower: true},
	{Name: "apart_tcp_p99", Title: "TCP round trip on two cores, p99", Unit: "µs", Lower: true},
	{Name: "apart_udp_p50", Title: "UDP round trip on two cores, p50", Unit: "µs", Lower: true},
	{Name: "apart_udp_p99", Title: "UDP round trip on two cores, p99", Unit: "µs", Lower: true},
	{Name: "busy_tcp_p50", Title: "TCP round trip under load, p50", Unit: "µs", Lower: true},
	{Name: "busy_tcp_p99", Title: "TCP round trip under load, p99", Unit: "µs", Lower: true},
	{Name: "busy_udp_p50", Title: "UDP round trip under load, p50", Unit: "µs", Lower: true},
	{Name: "busy_udp_p99", Title: "UDP round trip under load, p99", Unit: "µs", Lower: true},
	{Name: "uncaptured_keepalive", Title: "Requests/s, keep-alive, before a capture", Unit: "requests/s"},
	{Name: "captured_keepalive", Title: "Requests/s, keep-alive, during a capture", Unit: "requests/s"},
	{Name: "uncaptured_perrequest", Title: "Requests/s, connection each, before a capture", Unit: "requests/s"},
	{Name: "captured_perrequest", Title: "Requests/s, connection each, during a capture", Unit: "requests/s"},
	{Name: "uncaptured_iperf_down", Title: "iperf3, server to client, before a capture", Unit: "Gbit/s"},
	{Name: "captured_iperf_down", Title: "iperf3, server to client, during a capture", Unit: "Gbit/s"},
	planeCPU, machineCPU,
})

var groupMetrics = slices.Concat(requestMetrics, []Metric{
	bulkMetric,
	{Name: "https_keepalive", Title: "HTTPS requests/s, HTTP/1.1", Unit: "requests/s"},
	{Name: "https_perrequest", Title: "HTTPS requests/s, connection each", Unit: "requests/s"},
	{Name: "https_bulk", Title: "HTTPS, 1 MiB files, HTTP/1.1", Unit: "MB/s"},
	{Name: "h2_keepalive", Title: "HTTPS requests/s, HTTP/2", Unit: "requests/s"},
	{Name: "h2_bulk", Title: "HTTPS, 1 MiB files, HTTP/2", Unit: "MB/s"},
	{Name: "plane_cpu", Title: "CPU of the proxy's process", Unit: "ms per 1000 requests", Lower: true},
	machineCPU,
})

// nameMetrics have the probes of the path groups. Their titles differ, because here the server
// has the certificate and resumes no TLS session.
var nameMetrics = slices.Concat(requestMetrics, []Metric{
	{Name: "https_keepalive", Title: "HTTPS requests/s, keep-alive", Unit: "requests/s"},
	{Name: "https_perrequest", Title: "TLS handshakes/s", Unit: "handshakes/s"},
	{Name: "https_bulk", Title: "HTTPS, 1 MiB files", Unit: "MB/s"},
	{Name: "http3_keepalive", Title: "HTTP/3 requests/s, keep-alive", Unit: "requests/s"},
	planeCPU, machineCPU,
})

// tableLevels are the numbers of flows with which a flow table is measured.
var tableLevels = []int{1, 1e3, 1e5, 1e6}

// busyFlows is how many flows are busy in the probe in which most of the table's are idle.
const busyFlows = 1000

func tableMetrics() (metrics []Metric) {
	for _, n := range tableLevels {
		metrics = append(metrics, Metric{Name: packetsMetric(n), Title: "Datagrams/s, " + flowsOf(n), Unit: "datagrams/s"})
	}
	for _, n := range tableLevels {
		if n > busyFlows {
			title := fmt.Sprintf("Datagrams/s, %s busy of %s", grouped(busyFlows), flowsOf(n))
			metrics = append(metrics, Metric{Name: busyMetric(n), Title: title, Unit: "datagrams/s"})
		}
	}
	for _, n := range tableLevels {
		metrics = append(metrics, Metric{Name: costMetric(n), Title: "CPU of the whole machine, " + flowsOf(n), Unit: "ns per datagram", Lower: true})
	}
	// BPF maps take the memory for all possible flows at once, so the memory of one flow can
	// be told only with a full table.
	full := tableLevels[len(tableLevels)-1]
	metrics = append(metrics, Metric{Name: memoryMetric(full), Title: "Memory, " + flowsOf(full), Unit: "bytes per flow", Lower: true})
	return metrics
}

func flowsOf(n int) string {
	if n == 1 {
		return "one flow"
	}
	return grouped(int64(n)) + " flows"
}

const packetsPrefix = "packets_"

// The names of the metrics of a flow table with n flows.
func packetsMetric(n int) string { return fmt.Sprintf(packetsPrefix+"%d", n) }
func busyMetric(n int) string    { return fmt.Sprintf("busy_%d", n) }
func costMetric(n int) string    { return fmt.Sprintf("cost_%d", n) }
func memoryMetric(n int) string  { return fmt.Sprintf("memory_%d", n) }

// Figures that are no metrics.
const (
	// brokenRequests counts the requests of a round that a client program could not complete.
	brokenRequests = "broken_requests"

	// What reloads cost an established UDP flow.
	reloadsDone   = "reloads"
	reloadSent    = "reload_sent"
	reloadMissing = "reload_missing"
)

// reloadRate is how many datagrams are sent per second during reloads.
const reloadRate = 10000

// info returns the suiteInfo of a suite.
func (s *Suite) info() suiteInfo {
	for _, info := range suiteInfos {
		if info.name == s.Name {
			return info
		}
	}
	return suiteInfo{name: s.Name, title: s.Name}
}
