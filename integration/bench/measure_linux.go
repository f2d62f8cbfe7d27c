package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// bench is a run in progress.
type bench struct {
	settings
	pace    pace
	dir     string // temporary
	files   string // the directory of the HTTP server's files
	network *integration.Network
	sites   []*site
	sources sources
	result  *Result
}

// measure runs everything and leaves nothing of it behind.
func measure(ctx context.Context, s settings) (result *Result, err error) {
	b := &bench{settings: s, pace: fullPace}
	if s.quick {
		b.pace, b.rounds = quickPace, 1
	}
	chosen, err := choose(chosen(s.variants))
	if err != nil {
		return nil, err
	}
	if err := b.require(chosen); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "caddy-vnic-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.profile != "" {
		if err := os.MkdirAll(b.profile, 0o755); err != nil {
			return nil, err
		}
	}
	b.files = filepath.Join(b.dir, "files")
	if err := writeFiles(b.files); err != nil {
		return nil, err
	}
	b.result = &Result{Began: time.Now(), Quick: s.quick}
	if err := b.describe(ctx, chosen); err != nil {
		return nil, err
	}
	if err := b.compare(ctx, chosen); err != nil {
		return nil, err
	}
	return b.result, b.load(ctx, chosen)
}

// compare runs all rounds, and then the reloads, on all variants.
func (b *bench) compare(ctx context.Context, chosen []variant) (err error) {
	if err := b.open("bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.network.Close()) }()
	b.sites = nil
	for _, v := range chosen {
		progress("starting %s", v.Title)
		s, err := b.newSite(ctx, v)
		if err != nil {
			return err
		}
		b.sites = append(b.sites, s)
	}
	for n := range b.rounds {
		if err := b.round(ctx, n); err != nil {
			return err
		}
	}
	if err := b.reloads(ctx); err != nil || b.profile == "" {
		return err
	}
	return b.profiles(ctx)
}

// open makes the network of a part of the run.
func (b *bench) open(part string) (err error) {
	b.network, err = integration.NewNetwork(fmt.Sprintf("%s-%d", part, os.Getpid()))
	return err
}

// round runs each probe on all variants before the next one, so that what is
// compared was measured within seconds. Each round begins with another variant,
// so that none always has the same one's heat to bear.
func (b *bench) round(ctx context.Context, n int) error {
	figures := make(map[string]Figures)
	for _, s := range b.sites {
		figures[s.Name] = make(Figures)
	}
	for _, p := range probes {
		progress("round %d of %d: %s", n+1, b.rounds, p.name)
		for i := range b.sites {
			s := b.sites[(i+n)%len(b.sites)]
			if p.lacking != nil && p.lacking(s.variant) {
				continue
			}
			got, err := p.run(ctx, s, p.length(b.pace))
			if err != nil {
				return s.failed(p.name, err)
			}
			for name, value := range got {
				figures[s.Name][name] += value // only broken requests come from several probes
			}
		}
	}
	b.result.Rounds = append(b.result.Rounds, figures)
	return nil
}

// failed says of which variant and probe an error is, with the end of Caddy's
// log if it was ours.
func (s *site) failed(probe string, err error) error {
	err = fmt.Errorf("%s, %s: %w", s.Name, probe, err)
	if s.caddy != nil {
		err = fmt.Errorf("%w\nCaddy's log ends so:\n%s", err, s.caddy.Log(10))
	}
	return err
}

// reloads measures what a reload loses, on the variants that have both a
// configuration and UDP.
func (b *bench) reloads(ctx context.Context) error {
	b.result.Reloads = make(map[string]Loss)
	for _, s := range b.sites {
		if s.reload == nil || s.noUDP {
			continue
		}
		progress("%d reloads of %s", b.pace.reloads, s.Name)
		loss, err := s.measureReloads(ctx, b.pace.reloads)
		if err != nil {
			return s.failed("reloads", err)
		}
		b.result.Reloads[s.Name] = loss
	}
	return nil
}

// load measures our variants with full flow tables, each started anew, so that
// its memory is that of these flows.
func (b *bench) load(ctx context.Context, chosen []variant) error {
	b.result.Loads = make(map[string][]Load)
	for _, v := range slices.DeleteFunc(slices.Clone(chosen), func(v variant) bool { return !v.Ours }) {
		progress("filling the flow table of %s", v.Name)
		loads, err := b.loadOf(ctx, v)
		if err != nil {
			return err
		}
		b.result.Loads[v.Name] = loads
	}
	return nil
}

func (b *bench) loadOf(ctx context.Context, v variant) (loads []Load, err error) {
	if err := b.open("load"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.network.Close()) }()
	s, err := b.newSite(ctx, v)
	if err != nil {
		return nil, err
	}
	if loads, err = s.measureLoads(ctx, b.pace); err != nil {
		return nil, s.failed("full flow table", err)
	}
	if b.profile != "" {
		err = s.profiled(ctx, "full flow table", b.pace.flood, func(ctx context.Context, d time.Duration) error {
			sender, err := newSpoofer(s)
			if err != nil {
				return err
			}
			defer sender.close()
			_, err = s.flood(ctx, sender, loads[len(loads)-1].Flows, d)
			return err
		})
	}
	return loads, err
}
