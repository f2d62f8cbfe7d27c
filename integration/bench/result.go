package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// baseline is the variant with which the others are compared.
const baseline = "direct"

// Result is a whole run: the machine, the versions, and all figures of all rounds.
type Result struct {
	Began    time.Time     `json:"began"`
	Quick    bool          `json:"quick"`
	Machine  gauge.Machine `json:"machine"`
	Versions []Version     `json:"versions"`
	Suites   []*Suite      `json:"suites"`
}

// Version is the version of a program that took part.
type Version struct {
	Program string `json:"program"`
	Version string `json:"version"`
}

// Suite has the figures of one suite's variants.
type Suite struct {
	Name     string               `json:"name"`
	Variants []VariantInfo        `json:"variants"`
	Rounds   []map[string]Figures `json:"rounds"` // by variant
}

// VariantInfo describes a variant to readers.
type VariantInfo struct {
	Name string `json:"name"`
	Ours bool   `json:"ours,omitempty"` // caddy-vnic
}

// Figures has the metrics of one variant in one round, by name. A metric that the variant
// cannot have is absent: haproxy has no UDP.
type Figures map[string]float64

func readResult(path string) (*Result, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Result)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func (r *Result) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// suite returns a suite's figures, or an empty Suite if it did not run.
func (r *Result) suite(name string) *Suite {
	for _, s := range r.Suites {
		if s.Name == name {
			return s
		}
	}
	return &Suite{Name: name}
}

// rounds returns how many rounds the suites had.
func (r *Result) rounds() (n int) {
	for _, s := range r.Suites {
		n = max(n, len(s.Rounds))
	}
	return n
}

// figures returns a metric of a variant for each round that has it.
func (s *Suite) figures(variant, metric string) (values []float64) {
	for _, round := range s.Rounds {
		if v, ok := round[variant][metric]; ok {
			values = append(values, v)
		}
	}
	return values
}

// ratios returns, for each round, a variant's metric divided by the same metric of another
// variant.
func (s *Suite) ratios(variant, to, metric string) (values []float64) {
	return s.quotients(variant, metric, to, metric)
}

// advantages returns, for each round, by how many times a variant is better than another in a
// metric.
func (s *Suite) advantages(variant, than string, m Metric) []float64 {
	if m.Lower {
		return s.ratios(than, variant, m.Name)
	}
	return s.ratios(variant, than, m.Name)
}

// quotients returns, round by round, a metric of a variant divided by any metric of any
// variant.
func (s *Suite) quotients(variant, metric, to, toMetric string) (values []float64) {
	for _, round := range s.Rounds {
		v, ok := round[variant][metric]
		if base := round[to][toMetric]; ok && base > 0 {
			values = append(values, v/base)
		}
	}
	return values
}

// have tells whether any variant has a metric.
func (s *Suite) have(m Metric) bool {
	for _, v := range s.Variants {
		if len(s.figures(v.Name, m.Name)) > 0 {
			return true
		}
	}
	return false
}
