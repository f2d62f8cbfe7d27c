package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// suite has variants that do the same work, and the probes that measure them.
type suite struct {
	name     string
	on       addresses
	tools    []string  // programs that it needs, in addition to those of the variants
	variants []variant // the baseline comes first
	probes   []probe   // in the order in which a round runs them
	// serve starts the servers behind a running variant, and waits until the client can reach
	// them.
	serve func(context.Context, *site) error
}

// suites returns all suites, in the order in which they run.
func suites(p pace) []suite {
	return []suite{
		{bridgeSuite, ipv4, bridgeTools, bridgeVariants, bridgeProbes, serveBridge},
		{bridgeSuite6, ipv6, bridgeTools, ipv6Variants(bridgeVariants), ipv6Probes(bridgeProbes), serveBridge},
		{tableSuite, ipv4, nil, tableVariants(p.levels), tableProbes, serveTable},
		{groupsSuite, ipv4, httpTools, groupVariants, groupProbes, serveGroups},
		{groupsSuite6, ipv6, httpTools, groupVariants, groupProbes, serveGroups},
		{namesSuite, ipv4, httpTools, nameVariants, nameProbes, serveNames},
		{namesSuite6, ipv6, httpTools, nameVariants, nameProbes, serveNames},
	}
}

// The programs that the suites of both families need.
var (
	bridgeTools = []string{"nginx", "wrk", "iperf3"}
	httpTools   = []string{"nginx", "wrk", "h2load"}
)

// ipv6Variants returns the variants that carry IPv6. Those that are yardsticks of a frame's
// way do not: the way is the same.
func ipv6Variants(all []variant) []variant {
	return slices.DeleteFunc(slices.Clone(all), func(v variant) bool { return v.ipv4Only })
}

// ipv6Probes returns the probes that differ by family. Captures and reloads do not.
func ipv6Probes(all []probe) []probe {
	return slices.DeleteFunc(slices.Clone(all), func(p probe) bool { return p.ipv4Only })
}

// choose returns the suites of the named families with the named variants and parts only, and
// each suite's baseline. If no variant is named, it keeps all; the same holds for families and
// parts.
func choose(all []suite, families, variants, parts []string) (chosen []suite, err error) {
	for _, s := range all {
		if len(families) > 0 && !slices.Contains(families, s.family()) {
			continue
		}
		s.variants = slices.DeleteFunc(slices.Clone(s.variants), func(v variant) bool {
			return v.Name != baseline && len(variants) > 0 && !slices.Contains(variants, v.Name)
		})
		s.probes = slices.DeleteFunc(slices.Clone(s.probes), func(p probe) bool {
			return len(parts) > 0 && !slices.Contains(parts, p.part)
		})
		if len(s.probes) > 0 {
			chosen = append(chosen, s)
		}
	}
	if err := known("family", families, []string{"4", "6"}); err != nil {
		return nil, err
	}
	if err := known("variant", variants, variantNames(all)); err != nil {
		return nil, err
	}
	return chosen, known("part", parts, partNames(all))
}

// family names the suite's family as -families does.
func (s suite) family() string {
	if s.on.is6() {
		return "6"
	}
	return "4"
}

func known(kind string, names, all []string) error {
	for _, name := range names {
		if !slices.Contains(all, name) {
			return fmt.Errorf("no %s %q: there are %s", kind, name, strings.Join(all, ", "))
		}
	}
	return nil
}

func variantNames(suites []suite) (names []string) {
	for _, s := range suites {
		for _, v := range s.variants {
			names = appendNew(names, v.Name)
		}
	}
	return names
}

func partNames(suites []suite) (names []string) {
	for _, s := range suites {
		for _, p := range s.probes {
			names = appendNew(names, p.part)
		}
	}
	return names
}

func appendNew(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// byWork splits suites into groups that do the same work, over each family.
func byWork(suites []suite) (groups [][]suite) {
	for _, s := range suites {
		last := len(groups) - 1
		if last >= 0 && groups[last][0].work() == s.work() {
			groups[last] = append(groups[last], s)
		} else {
			groups = append(groups, []suite{s})
		}
	}
	return groups
}

// work names what the suite does over either family.
func (s suite) work() string { return strings.TrimSuffix(s.name, "6") }

// running is a suite whose variants run.
type running struct {
	suite
	network *netlab.Network
	sites   []*site
	result  *Suite
}

// run starts all variants of suites, and measures them round by round. The suites take turns, so that
// those of their figures that are compared are of the same minutes.
func (b *bench) run(ctx context.Context, suites []suite) (err error) {
	var all []*running
	defer func() {
		for _, r := range all {
			err = errors.Join(err, r.stop())
		}
	}()
	for _, of := range suites {
		r := &running{suite: of, result: &Suite{Name: of.name}}
		all = append(all, r)
		b.result.Suites = append(b.result.Suites, r.result)
		if err := b.start(ctx, r); err != nil {
			return err
		}
	}
	for n := range b.rounds {
		for _, r := range all {
			figures, err := b.round(ctx, r, n)
			if err != nil {
				return err
			}
			r.result.Rounds = append(r.result.Rounds, figures)
		}
	}
	if b.profile == "" {
		return nil
	}
	for _, r := range all {
		if err := b.profiles(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// start starts all variants.
func (b *bench) start(ctx context.Context, r *running) (err error) {
	if r.network, err = netlab.NewNetwork(fmt.Sprintf("bench-%s-%d", r.name, os.Getpid())); err != nil {
		return err
	}
	for _, v := range r.variants {
		s, err := b.newSite(ctx, r.network, r.suite, v)
		if err != nil {
			return err
		}
		r.sites = append(r.sites, s)
		if !slices.Contains(r.result.Variants, v.VariantInfo) {
			r.result.Variants = append(r.result.Variants, v.VariantInfo)
		}
	}
	return nil
}

// stop ends what runs, and removes the network.
func (r *running) stop() error {
	for _, s := range r.sites {
		s.release()
	}
	if r.network == nil {
		return nil
	}
	return r.network.Close()
}

// round runs each probe on all variants before the next probe, so that the compared figures
// are measured within seconds of each other. Each round begins with another variant, so that
// the order favours none.
func (b *bench) round(ctx context.Context, r *running, n int) (map[string]Figures, error) {
	figures := make(map[string]Figures)
	for _, s := range r.sites {
		figures[s.Name] = make(Figures)
	}
	for _, p := range r.probes {
		if p.once && n < b.rounds-1 {
			continue
		}
		progress("%s, round %d of %d: %s", r.name, n+1, b.rounds, p.name)
		for i := range r.sites {
			s := r.sites[(i+n)%len(r.sites)]
			if p.can != nil && !p.can(s) {
				continue
			}
			got, err := p.run(ctx, s, p.length(b.pace))
			if err != nil {
				return nil, s.failed(p.name, err)
			}
			for name, value := range got {
				figures[s.Name][name] += value // only broken requests come from several probes
			}
		}
	}
	return figures, nil
}

// failed adds the variant and the probe to an error, and the end of Caddy's log if the
// variant has one.
func (s *site) failed(probe string, err error) error {
	err = fmt.Errorf("%s, %s: %w", s.label, probe, err)
	if s.caddy != nil {
		err = fmt.Errorf("%w\nthe last lines of Caddy's log:\n%s", err, s.caddy.Log(10))
	}
	return err
}
