package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// The figures of docs/evidence/benchmarks.md are between these lines; the rest of the
// page is written by hand.
const (
	pageName  = "benchmarks.md"
	pageBegin = "<!-- figures: written by make bench -->\n"
	pageEnd   = "<!-- end of figures -->\n"
)

// writeDocs writes the results into the page in dir, and its charts.
func writeDocs(dir string, r *Result) error {
	path := filepath.Join(dir, pageName)
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if page, err = gauge.Replace(page, pageBegin, pageEnd, pageFigures(r)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range r.Suites {
		for _, chart := range s.charts() {
			if err := os.WriteFile(filepath.Join(dir, chart.file), chart.svg(), 0o644); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(path, page, 0o644)
}

// pageFigures returns the figures as Markdown.
func pageFigures(r *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s.\n", machineLine(r))
	for _, s := range r.Suites {
		writeSuite(&b, s)
	}
	writeFloors(&b, r)
	b.WriteString("\nVersions:\n\n")
	for _, v := range r.Versions {
		fmt.Fprintf(&b, "- %s %s\n", v.Program, v.Version)
	}
	b.WriteString("\n")
	return b.String()
}

func writeSuite(b *strings.Builder, s *Suite) {
	fmt.Fprintf(b, "\n## %s\n\n", s.info().title)
	for _, chart := range s.charts() {
		fmt.Fprintf(b, "![%s](%s)\n\n", chart.title, chart.file)
	}
	b.WriteString("Medians:\n\n")
	writeTable(b, s, func(v VariantInfo, m Metric) string {
		median, ok := spreadOf(s.figures(v.Name, m.Name))
		if !ok {
			return "–"
		}
		return number(median.Median)
	})
	b.WriteString("\nRatios to direct of the same round, as median (lowest–highest):\n\n")
	writeTable(b, s, func(v VariantInfo, m Metric) string {
		ratio, ok := spreadOf(s.ratios(v.Name, baseline, m.Name))
		if !ok {
			return "–"
		}
		return ratio.ratio()
	})
	b.WriteByte('\n')
	for _, fact := range s.facts() {
		fmt.Fprintf(b, "- %s\n", fact)
	}
}

// writeTable writes a table with a row for each metric and a column for each variant.
func writeTable(b *strings.Builder, s *Suite, cell func(VariantInfo, Metric) string) {
	b.WriteString("| |")
	for _, v := range s.Variants {
		fmt.Fprintf(b, " %s |", v.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(s.Variants)) + "\n")
	for _, m := range s.info().metrics {
		if !s.have(m) {
			continue
		}
		fmt.Fprintf(b, "| %s |", m.heading())
		for _, v := range s.Variants {
			fmt.Fprintf(b, " %s |", cell(v, m))
		}
		b.WriteByte('\n')
	}
}

// writeFloors writes the table of floors, with the verdict on each.
func writeFloors(b *strings.Builder, r *Result) {
	fmt.Fprintf(b, "\n## Floors\n\nWhat the project promises for the data path `%s`: a bound for the median of the rounds.\n\n", ours)
	b.WriteString("| floor | required | measured | goal | |\n|---|---:|---:|---:|---|\n")
	for _, v := range verdicts(r) {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", v.floor, v.required, v.got, v.goalRequired, v)
	}
}
