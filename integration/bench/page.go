package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The figures of docs/benchmarks.md are between these lines; the rest of the
// page is written by hand.
const (
	pageName  = "benchmarks.md"
	pageBegin = "<!-- figures: written by make bench -->\n"
	pageEnd   = "<!-- end of figures -->\n"
)

// writeDocs puts the results into the page and its charts.
func writeDocs(dir string, r *Result) error {
	path := filepath.Join(dir, pageName)
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if page, err = replaceFigures(page, pageFigures(r)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for name, chart := range charts(r) {
		if err := os.WriteFile(filepath.Join(dir, name), chart.svg(), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(path, page, 0o644)
}

// replaceFigures replaces what is between the two lines.
func replaceFigures(page []byte, figures string) ([]byte, error) {
	before, rest, found := bytes.Cut(page, []byte(pageBegin))
	_, after, ended := bytes.Cut(rest, []byte(pageEnd))
	if !found || !ended {
		return nil, fmt.Errorf("the lines %q and %q are missing", strings.TrimSpace(pageBegin), strings.TrimSpace(pageEnd))
	}
	return bytes.Join([][]byte{before, []byte(pageBegin + figures + pageEnd), after}, nil), nil
}

// pageFigures are the figures as Markdown.
func pageFigures(r *Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s.\n\n", machineLine(r))
	fmt.Fprintf(&b, "![Throughput of each variant as a ratio to direct](%s)\n\n", throughputChart)
	fmt.Fprintf(&b, "![Round trips of each variant in microseconds](%s)\n\n", latencyChart)
	b.WriteString("Medians:\n\n")
	writeTable(&b, r, func(v VariantInfo, m Metric) string {
		s, ok := spreadOf(r.figures(v.Name, m.Name))
		if !ok {
			return "–"
		}
		return number(s.Median)
	})
	b.WriteString("\nRatios to direct of the same round, as median (lowest–highest):\n\n")
	writeTable(&b, r, func(v VariantInfo, m Metric) string {
		s, ok := spreadOf(r.ratios(v.Name, baseline, m.Name))
		if !ok {
			return "–"
		}
		return s.ratio()
	})
	b.WriteByte('\n')
	for _, fact := range facts(r) {
		fmt.Fprintf(&b, "- %s\n", fact)
	}
	b.WriteString("\nVersions: ")
	for i, v := range r.Versions {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s %s", v.Program, v.Version)
	}
	b.WriteString(".\n\n")
	return b.String()
}

// writeTable writes a row for each metric, a column for each variant.
func writeTable(b *strings.Builder, r *Result, cell func(VariantInfo, Metric) string) {
	b.WriteString("| |")
	for _, v := range r.Variants {
		fmt.Fprintf(b, " %s |", v.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(r.Variants)) + "\n")
	for _, m := range metrics {
		fmt.Fprintf(b, "| %s |", m.heading())
		for _, v := range r.Variants {
			fmt.Fprintf(b, " %s |", cell(v, m))
		}
		b.WriteByte('\n')
	}
}
