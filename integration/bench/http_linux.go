package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

func keepAlive(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	before, err := s.cpuTimes()
	if err != nil {
		return nil, err
	}
	totals, err := s.wrk(ctx, d, s.url("http", "1k"), 64)
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
	totals, err := s.wrk(ctx, d, s.url("http", "1k"), 64, "--header", "Connection: close")
	return Figures{"perrequest": totals.requestRate(), brokenRequests: float64(totals.broken())}, err
}

func bulk(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	totals, err := s.wrk(ctx, d, s.url("http", "1m"), 16)
	return Figures{"bulk": totals.megabytes(), brokenRequests: float64(totals.broken())}, err
}

func httpsPerRequest(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	totals, err := s.wrk(ctx, d, s.url("https", "1k"), 64, "--header", "Connection: close")
	return Figures{"https_perrequest": totals.requestRate(), brokenRequests: float64(totals.broken())}, err
}

// wrk runs wrk with one thread.
func (s *site) wrk(ctx context.Context, d time.Duration, url string, connections int, more ...string) (t wrkTotals, err error) {
	script, err := s.write("wrk.lua", wrkScript(s.public.Addr()))
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

func httpsKeepAlive(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	totals, err := s.h2load(ctx, d, "1k", 64, "--h1")
	return Figures{"https_keepalive": totals.requestRate(), brokenRequests: float64(totals.Broken)}, err
}

func httpsBulk(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	totals, err := s.h2load(ctx, d, "1m", 16, "--h1")
	return Figures{"https_bulk": totals.megabytes(), brokenRequests: float64(totals.Broken)}, err
}

func h2KeepAlive(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	totals, err := s.h2load(ctx, d, "1k", 8, "--max-concurrent-streams", "8")
	return Figures{"h2_keepalive": totals.requestRate(), brokenRequests: float64(totals.Broken)}, err
}

func h2Bulk(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	totals, err := s.h2load(ctx, d, "1m", 4, "--max-concurrent-streams", "4")
	return Figures{"h2_bulk": totals.megabytes(), brokenRequests: float64(totals.Broken)}, err
}

// http3KeepAlive has 16 connections.
func http3KeepAlive(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d+grace)
	defer cancel()
	output, err := s.client.Run(ctx, self, http3LoadCommand, s.url("https", "1k"), s.publicPort(httpsPort).String(),
		s.bench.path(certificateFile), "16", d.String())
	if err != nil {
		return nil, err
	}
	var totals loadTotals
	if err := json.Unmarshal(output, &totals); err != nil {
		return nil, fmt.Errorf("%s printed %q: %w", http3LoadCommand, output, err)
	}
	return Figures{"http3_keepalive": totals.requestRate(), brokenRequests: float64(totals.Broken)}, nil
}

// h2load runs h2load with one thread over HTTPS.
func (s *site) h2load(ctx context.Context, d time.Duration, file string, connections int, more ...string) (t loadTotals, err error) {
	args := []string{
		"--threads", "1", "--clients", fmt.Sprint(connections), "--duration", seconds(d),
		"--connect-to", s.publicPort(httpsPort).String(),
	}
	ctx, cancel := context.WithTimeout(ctx, d+grace)
	defer cancel()
	output, err := s.client.Run(ctx, "h2load", append(append(args, more...), s.url("https", file))...)
	if err != nil {
		return t, err
	}
	return parseH2load(output)
}
