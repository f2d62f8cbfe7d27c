package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// baseline is the variant that the others are compared with.
const baseline = "direct"

// Result is a whole run: what it ran on, and all figures of all rounds.
type Result struct {
	Began    time.Time            `json:"began"`
	Quick    bool                 `json:"quick"`
	Machine  Machine              `json:"machine"`
	Versions []Version            `json:"versions"`
	Variants []VariantInfo        `json:"variants"`
	Rounds   []map[string]Figures `json:"rounds"`            // by variant
	Reloads  map[string]Loss      `json:"reloads,omitempty"` // by variant
	Loads    map[string][]Load    `json:"loads,omitempty"`   // by variant
}

// Machine is what a run ran on.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	MemoryMiB int    `json:"memory_mib"`
	Kernel    string `json:"kernel"`
}

// Version is the version of a program that took part.
type Version struct {
	Program string `json:"program"`
	Version string `json:"version"`
}

// VariantInfo describes a variant to readers.
type VariantInfo struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Ours  bool   `json:"ours,omitempty"` // caddy-vnic
}

// Loss is what reloads cost an established UDP flow.
type Loss struct {
	Reloads int `json:"reloads"`
	Sent    int `json:"sent"`
	Lost    int `json:"lost"`
}

// Load is a number of flows in the flow table, and what the bridge does with it.
type Load struct {
	Flows      int     `json:"flows"`
	PacketRate float64 `json:"packet_rate"` // datagrams delivered per second, spread over the flows
	RSS        int64   `json:"rss"`         // memory of Caddy's process, bytes
	RSSBefore  int64   `json:"rss_before"`  // the same without flows
	Stated     int64   `json:"stated"`      // vnicbridge.FlowBytes
}

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

// figures returns a metric of a variant in each round that has it.
func (r *Result) figures(variant, metric string) (values []float64) {
	for _, round := range r.Rounds {
		if v, ok := round[variant][metric]; ok {
			values = append(values, v)
		}
	}
	return values
}

// ratios returns a metric of a variant over that of another, round by round.
func (r *Result) ratios(variant, to, metric string) (values []float64) {
	for _, round := range r.Rounds {
		v, ok := round[variant][metric]
		if base := round[to][metric]; ok && base > 0 {
			values = append(values, v/base)
		}
	}
	return values
}
