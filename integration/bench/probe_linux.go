package main

import (
	"context"
	"fmt"
	"time"
)

// probe measures one or several metrics of a variant.
type probe struct {
	name    string
	length  func(pace) time.Duration
	lacking func(variant) bool // nil: every variant can
	run     func(context.Context, *site, time.Duration) (Figures, error)
}

// probes are all there are, in the order in which a round runs them.
var probes = []probe{
	{name: "keep-alive", length: func(p pace) time.Duration { return p.http }, run: keepAlive},
	{name: "connection each", length: func(p pace) time.Duration { return p.http }, run: perRequest},
	{name: "1 MiB files", length: func(p pace) time.Duration { return p.http }, run: bulk},
	{name: "iperf3 up", length: func(p pace) time.Duration { return p.iperf }, run: iperfUp},
	{name: "iperf3 down", length: func(p pace) time.Duration { return p.iperf }, run: iperfDown},
	{name: "TCP round trip", length: func(p pace) time.Duration { return p.latency }, run: tcpRoundTrip},
	{name: "UDP round trip", length: func(p pace) time.Duration { return p.latency }, run: udpRoundTrip,
		lacking: func(v variant) bool { return v.noUDP }},
	{name: "new flows", length: func(p pace) time.Duration { return p.latency }, run: newFlows,
		lacking: func(v variant) bool { return v.noUDP || v.noFlows }},
}

// pace says how long everything takes.
type pace struct {
	http, iperf time.Duration // whole seconds
	latency     time.Duration
	reloads     int
	loads       []int // of the flow table, ascending
	flood       time.Duration
}

var (
	fullPace = pace{
		http: 3 * time.Second, iperf: 2 * time.Second, latency: time.Second,
		reloads: 20, loads: []int{1, 1e3, 1e5, 1e6}, flood: 2 * time.Second,
	}
	quickPace = pace{
		http: time.Second, iperf: time.Second, latency: 300 * time.Millisecond,
		reloads: 3, loads: []int{1, 1e3, 1e5}, flood: 300 * time.Millisecond,
	}
)

// grace is how long a client program may take beyond the time it is given.
const grace = 15 * time.Second

func keepAlive(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	before, err := s.cpuTimes()
	if err != nil {
		return nil, err
	}
	totals, err := s.wrk(ctx, d, s.url("1k"), 64)
	if err != nil {
		return nil, err
	}
	after, err := s.cpuTimes()
	if err != nil {
		return nil, err
	}
	figures := Figures{
		"keepalive":    totals.requestRate(),
		brokenRequests: float64(totals.broken()),
		"machine_cpu":  millisecondsPerThousand(after.machine-before.machine, totals.Requests),
	}
	if s.pid != 0 {
		figures["plane_cpu"] = millisecondsPerThousand(after.plane-before.plane, totals.Requests)
	}
	return figures, nil
}

func millisecondsPerThousand(t time.Duration, requests int64) float64 {
	return t.Seconds() * 1000 / (float64(requests) / 1000)
}

func perRequest(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	totals, err := s.wrk(ctx, d, s.url("1k"), 64, "--header", "Connection: close")
	return Figures{"perrequest": totals.requestRate(), brokenRequests: float64(totals.broken())}, err
}

func bulk(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	totals, err := s.wrk(ctx, d, s.url("1m"), 16)
	return Figures{"bulk": totals.megabytes(), brokenRequests: float64(totals.broken())}, err
}

// wrk runs wrk with one thread.
func (s *site) wrk(ctx context.Context, d time.Duration, url string, connections int, more ...string) (t wrkTotals, err error) {
	script, err := s.write("report.lua", wrkReport)
	if err != nil {
		return t, err
	}
	args := []string{"--threads", "1", "--connections", fmt.Sprint(connections), "--duration", seconds(d), "--script", script}
	ctx, cancel := context.WithTimeout(ctx, d+grace)
	defer cancel()
	output, err := s.client.Run(ctx, "wrk", append(append(args, more...), url)...)
	if err != nil {
		return t, err
	}
	return parseWrk(output)
}

func iperfUp(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	rate, err := s.iperf3(ctx, d)
	return Figures{"iperf_up": rate}, err
}

func iperfDown(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	rate, err := s.iperf3(ctx, d, "--reverse")
	return Figures{"iperf_down": rate}, err
}

func (s *site) iperf3(ctx context.Context, d time.Duration, more ...string) (float64, error) {
	args := []string{"--client", s.public.String(), "--port", fmt.Sprint(iperfPort), "--time", seconds(d), "--json"}
	ctx, cancel := context.WithTimeout(ctx, d+grace)
	defer cancel()
	output, err := s.client.Run(ctx, "iperf3", append(args, more...)...)
	if err != nil {
		return 0, err
	}
	return parseIperf3(output)
}

// seconds is a time as wrk and iperf3 take it.
func seconds(d time.Duration) string { return fmt.Sprint(int(d.Seconds())) }
