package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// bench is a run in progress.
type bench struct {
	settings
	pace   pace
	dir    string // temporary
	files  string // the directory of the HTTP server's files
	result *Result
}

// measure runs the chosen suites, and removes all networks and temporary files.
func measure(ctx context.Context, s settings) (result *Result, err error) {
	b := &bench{settings: s, pace: fullPace}
	if s.quick {
		b.pace, b.rounds = quickPace, 1
	}
	chosen, err := choose(suites(b.pace), list(s.families), list(s.variants), list(s.only))
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
	b.files = b.path("files")
	if err := errors.Join(writeFiles(b.files), writeCertificate(b.dir)); err != nil {
		return nil, err
	}
	b.result = &Result{Began: time.Now(), Quick: s.quick}
	if err := b.describe(ctx); err != nil {
		return nil, err
	}
	for _, group := range byWork(chosen) {
		if err := b.run(ctx, group); err != nil {
			return nil, err
		}
	}
	return b.result, nil
}

// path returns the path of one of the run's temporary files.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }
