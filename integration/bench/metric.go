package main

// Metric is one figure that is measured for each variant in each round.
type Metric struct {
	Name  string // its key in the JSON
	Title string
	Unit  string
	Lower bool // less is better
}

// metrics are all metrics, in the order of the report.
var metrics = []Metric{
	{Name: "keepalive", Title: "Requests/s, keep-alive", Unit: "requests/s"},
	{Name: "perrequest", Title: "Requests/s, connection each", Unit: "requests/s"},
	{Name: "bulk", Title: "1 MiB files", Unit: "MB/s"},
	{Name: "iperf_up", Title: "iperf3, client to server", Unit: "Gbit/s"},
	{Name: "iperf_down", Title: "iperf3, server to client", Unit: "Gbit/s"},
	{Name: "flows", Title: "New UDP flows/s", Unit: "flows/s"},
	{Name: "tcp_p50", Title: "TCP round trip, p50", Unit: "µs", Lower: true},
	{Name: "tcp_p99", Title: "TCP round trip, p99", Unit: "µs", Lower: true},
	{Name: "udp_p50", Title: "UDP round trip, p50", Unit: "µs", Lower: true},
	{Name: "udp_p99", Title: "UDP round trip, p99", Unit: "µs", Lower: true},
	{Name: "plane_cpu", Title: "CPU of the data plane's process", Unit: "ms per 1000 requests", Lower: true},
	{Name: "machine_cpu", Title: "CPU of the whole machine", Unit: "ms per 1000 requests", Lower: true},
}

// brokenRequests is a figure beside the metrics: requests that wrk could not
// complete, of all probes of a round.
const brokenRequests = "broken_requests"

// Figures are the metrics of one variant in one round, by name. One that the
// variant cannot have, as haproxy has no UDP, is absent.
type Figures map[string]float64

// reloadRate is how many datagrams per second are sent while reloads go on.
const reloadRate = 10000
