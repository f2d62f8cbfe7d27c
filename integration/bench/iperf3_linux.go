package main

import (
	"context"
	"fmt"
	"time"
)

func iperfUp(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	rate, err := s.iperf3(ctx, d)
	return Figures{"iperf_up": rate}, err
}

func iperfDown(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	rate, err := s.iperf3(ctx, d, "--reverse")
	return Figures{"iperf_down": rate}, err
}

func (s *site) iperf3(ctx context.Context, d time.Duration, more ...string) (float64, error) {
	args := []string{"--client", s.public.Addr().String(), "--port", fmt.Sprint(iperfPort), "--time", seconds(d), "--json"}
	ctx, cancel := context.WithTimeout(ctx, d+grace)
	defer cancel()
	output, err := s.client.Run(ctx, "iperf3", append(args, more...)...)
	if err != nil {
		return 0, err
	}
	return parseIperf3(output)
}
