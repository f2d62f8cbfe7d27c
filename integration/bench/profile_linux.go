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

// profiles runs each probe once more on our variants, under Caddy's CPU profiler,
// whose cost would be in the figures otherwise.
func (b *bench) profiles(ctx context.Context) error {
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return err
	}
	for _, s := range b.sites {
		if s.caddy == nil {
			continue
		}
		for _, p := range probes {
			progress("profile of %s: %s", s.Name, p.name)
			length := max(p.length(b.pace), time.Second)
			work, ctx := errgroup.WithContext(ctx)
			work.Go(func() error {
				_, err := p.run(ctx, s, length)
				return err
			})
			work.Go(func() error { return s.cpuProfile(ctx, p.name, length) })
			if err := work.Wait(); err != nil {
				return s.failed(p.name, err)
			}
		}
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
	name := s.Name + "-" + strings.ReplaceAll(probe, " ", "-") + ".pprof"
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
