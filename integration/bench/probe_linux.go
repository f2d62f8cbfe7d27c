package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// probe measures one or several metrics of a variant.
type probe struct {
	name     string
	part     string // the part of the run to which it belongs, as -only names it
	length   func(pace) time.Duration
	once     bool             // run it in the last round only
	can      func(*site) bool // whether a variant can be measured; nil: every variant can
	ipv4Only bool             // it measures what does not depend on the family
	run      func(context.Context, *site, time.Duration) (Figures, error)
}

// bridgeProbes measure one segment behind the bridge.
var bridgeProbes = []probe{
	{name: "keep-alive", part: "requests", length: httpLength, run: keepAlive},
	{name: "connection each", part: "requests", length: httpLength, run: perRequest},
	{name: "1 MiB files", part: "bulk", length: httpLength, run: bulk},
	{name: "iperf3 up", part: "iperf3", length: iperfLength, run: iperfUp},
	{name: "iperf3 down", part: "iperf3", length: iperfLength, run: iperfDown},
	{name: "TCP round trip", part: "roundtrip", length: latencyLength, run: roundTrip("tcp", unix.SOCK_STREAM, together)},
	{name: "UDP round trip", part: "roundtrip", length: latencyLength, run: roundTrip("udp", unix.SOCK_DGRAM, together), can: hasUDP},
	{name: "TCP round trip on two cores", part: "roundtrip", length: latencyLength, run: roundTrip("apart_tcp", unix.SOCK_STREAM, apart), can: canPart},
	{name: "UDP round trip on two cores", part: "roundtrip", length: latencyLength, run: roundTrip("apart_udp", unix.SOCK_DGRAM, apart),
		can: func(s *site) bool { return canPart(s) && hasUDP(s) }},
	{name: "TCP round trip under load", part: "roundtrip", length: busyLength, run: busy(roundTrip("busy_tcp", unix.SOCK_STREAM, anywhere))},
	{name: "UDP round trip under load", part: "roundtrip", length: busyLength, run: busy(roundTrip("busy_udp", unix.SOCK_DGRAM, anywhere)), can: hasUDP},
	{name: "new flows", part: "flows", length: latencyLength, run: newFlows, can: keepsFlows},
	{name: "keep-alive while captured", part: "capture", length: httpLength, run: captured(keepAlive, "keepalive"), can: canCapture, ipv4Only: true},
	{name: "connection each while captured", part: "capture", length: httpLength, run: captured(perRequest, "perrequest"), can: canCapture, ipv4Only: true},
	{name: "iperf3 while captured", part: "capture", length: iperfLength, run: captured(iperfDown, "iperf_down"), can: canCapture, ipv4Only: true},
	{name: "reloads", part: "reloads", length: busyLength, run: reloads, once: true, can: canReload, ipv4Only: true},
}

// tableProbes measure the cost of a full flow table.
var tableProbes = []probe{
	{name: "datagrams over all flows", part: "table", length: func(p pace) time.Duration { return p.flood }, run: crowd},
	{name: "datagrams over a few of the flows", part: "table", length: func(p pace) time.Duration { return p.flood }, run: busyFew, can: hasIdleFlows},
}

// groupProbes measure groups by URL path.
var groupProbes = []probe{
	{name: "keep-alive", part: "groups", length: httpLength, run: keepAlive},
	{name: "connection each", part: "groups", length: httpLength, run: perRequest},
	{name: "1 MiB files", part: "groups", length: httpLength, run: bulk},
	{name: "HTTPS, HTTP/1.1", part: "https", length: httpsLength, run: httpsKeepAlive},
	{name: "HTTPS, connection each", part: "https", length: httpsLength, run: httpsPerRequest},
	{name: "HTTPS, HTTP/1.1, 1 MiB files", part: "https", length: httpsLength, run: httpsBulk},
	{name: "HTTPS, HTTP/2", part: "https", length: httpsLength, run: h2KeepAlive},
	{name: "HTTPS, HTTP/2, 1 MiB files", part: "https", length: httpsLength, run: h2Bulk},
}

// nameProbes measure segments by host name.
var nameProbes = []probe{
	{name: "keep-alive", part: "names", length: httpLength, run: keepAlive},
	{name: "connection each", part: "names", length: httpLength, run: perRequest},
	{name: "HTTPS", part: "names", length: httpsLength, run: httpsKeepAlive},
	{name: "TLS handshakes", part: "names", length: httpsLength, run: httpsPerRequest},
	{name: "HTTPS, 1 MiB files", part: "names", length: httpsLength, run: httpsBulk},
	{name: "HTTP/3", part: "names", length: httpsLength, run: http3KeepAlive, can: hasUDP},
}

func hasUDP(s *site) bool     { return !s.noUDP }
func canPart(*site) bool      { return runtime.NumCPU() > 1 }
func keepsFlows(s *site) bool { return !s.noUDP && !s.noFlows }
func canReload(s *site) bool  { return !s.noUDP && s.reload != nil }

// pace says how long each probe takes.
type pace struct {
	http, https, iperf, busy time.Duration // whole seconds
	latency, flood           time.Duration
	reloads                  int
	levels                   []int // of the flow table
}

func httpLength(p pace) time.Duration    { return p.http }
func httpsLength(p pace) time.Duration   { return p.https }
func iperfLength(p pace) time.Duration   { return p.iperf }
func busyLength(p pace) time.Duration    { return p.busy }
func latencyLength(p pace) time.Duration { return p.latency }

var (
	fullPace = pace{
		http: 3 * time.Second, https: 2 * time.Second, iperf: 2 * time.Second, busy: time.Second,
		latency: 700 * time.Millisecond, flood: 2 * time.Second, reloads: 100, levels: tableLevels,
	}
	quickPace = pace{
		http: time.Second, https: time.Second, iperf: time.Second, busy: time.Second,
		latency: 300 * time.Millisecond, flood: 300 * time.Millisecond, reloads: 3, levels: tableLevels[:3],
	}
)

// grace is how long a client program may take beyond its time.
const grace = 15 * time.Second

// seconds formats a time as client programs take it.
func seconds(d time.Duration) string { return fmt.Sprint(int(d.Seconds())) }
