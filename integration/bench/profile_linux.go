package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// profiles runs each probe once more on the variants that are ours, under Caddy's CPU
// profiler. These runs are not measured, because the profiler costs time.
func (b *bench) profiles(ctx context.Context, r *running) error {
	for _, s := range r.sites {
		for _, p := range r.probes {
			if s.caddy == nil || p.once || p.can != nil && !p.can(s) {
				continue
			}
			err := s.profiled(ctx, p.name, p.length(b.pace), func(ctx context.Context, d time.Duration) error {
				_, err := p.run(ctx, s, d)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// profiled runs work for at least a second under Caddy's profiler.
func (s *site) profiled(ctx context.Context, name string, d time.Duration, work func(context.Context, time.Duration) error) error {
	progress("profile of %s: %s", s.label, name)
	d = max(d, time.Second)
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return work(ctx, d) })
	both.Go(func() error { return s.cpuProfile(ctx, name, d) })
	if err := both.Wait(); err != nil {
		return s.failed(name, err)
	}
	return nil
}

// cpuProfile fetches a profile of Caddy from its admin API.
func (s *site) cpuProfile(ctx context.Context, probe string, length time.Duration) error {
	url := fmt.Sprintf("http://localhost:2019/debug/pprof/profile?seconds=%d", int(length.Seconds()))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := s.server.HTTPClient().Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	name := strings.NewReplacer(" ", "-", "/", "").Replace(s.suite+"-"+s.label+"-"+probe) + ".pprof"
	profile, err := os.Create(filepath.Join(s.bench.profile, name))
	if err != nil {
		return err
	}
	defer profile.Close()
	if _, err := io.Copy(profile, answer.Body); err != nil {
		return err
	}
	return profile.Close()
}
