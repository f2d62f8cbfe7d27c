package main

import (
	"fmt"
	"io"
	"strings"
)

// printResult writes the report for a terminal. For each metric of each suite it has the
// variants' medians and their ratios to the baseline, and at the end the floors.
func printResult(w io.Writer, r *Result) error {
	var b strings.Builder
	fmt.Fprintln(&b, machineLine(r)+".")
	for _, s := range r.Suites {
		printSuite(&b, s)
	}
	fmt.Fprintf(&b, "\nFloors, for %s\n", ours)
	for _, v := range verdicts(r) {
		fmt.Fprintf(&b, "  %-18s  %s %s: %s\n", v, v.floor, v.required, v.got)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printSuite(b *strings.Builder, s *Suite) {
	info := s.info()
	fmt.Fprintf(b, "\n== %s\n", info.title)
	for _, m := range info.metrics {
		if !s.have(m) {
			continue
		}
		fmt.Fprintf(b, "\n%s\n", m.heading())
		for _, v := range s.Variants {
			median, ok := spreadOf(s.figures(v.Name, m.Name))
			if !ok {
				continue
			}
			line := fmt.Sprintf("  %-12s %10s", v.Name, number(median.Median))
			if ratio, ok := spreadOf(s.ratios(v.Name, baseline, m.Name)); ok && v.Name != baseline {
				line += "   " + ratio.ratio()
			}
			fmt.Fprintln(b, line)
		}
	}
	fmt.Fprintln(b)
	for _, fact := range s.facts() {
		fmt.Fprintln(b, fact)
	}
}

// heading returns the metric's title, with its unit unless the title has it.
func (m Metric) heading() string {
	heading := m.Title
	if !strings.Contains(m.Title, "/s") {
		heading += ", " + m.Unit
	}
	if m.Lower {
		heading += " (less is better)"
	}
	return heading
}

func machineLine(r *Result) string {
	line := fmt.Sprintf("Rounds: %d, on %s, %s", r.rounds(), r.Machine, r.Began.UTC().Format("2006-01-02"))
	if r.Quick {
		line += ". A quick run: its figures mean little"
	}
	return line
}

// facts returns the results that do not fit the suite's table, a sentence each.
func (s *Suite) facts() (facts []string) {
	for _, v := range s.Variants {
		if broken := total(s.figures(v.Name, brokenRequests)); broken > 0 {
			facts = append(facts, fmt.Sprintf("%s: in all rounds together, %s requests were refused, broken or timed out.", v.Name, grouped(int64(broken))))
		}
	}
	for _, v := range s.Variants {
		if reloads := total(s.figures(v.Name, reloadsDone)); reloads > 0 {
			facts = append(facts, fmt.Sprintf("%s lost %s of %s datagrams of one flow, sent at %s a second over %s reloads.", v.Name,
				grouped(int64(total(s.figures(v.Name, reloadMissing)))), grouped(int64(total(s.figures(v.Name, reloadSent)))),
				grouped(reloadRate), grouped(int64(reloads))))
		}
	}
	most := tableLevels[len(tableLevels)-1]
	for _, v := range s.Variants {
		if ratio, ok := spreadOf(s.quotients(v.Name, busyMetric(most), v.Name, packetsMetric(1))); ok {
			facts = append(facts, fmt.Sprintf("%s delivers %s times as many datagrams a second over %s of %s flows as over one alone.",
				v.Name, ratio.ratio(), grouped(busyFlows), grouped(int64(most))))
		}
		if ratio, ok := spreadOf(s.quotients(v.Name, packetsMetric(most), v.Name, packetsMetric(1))); ok {
			facts = append(facts, fmt.Sprintf("%s delivers %s times as many datagrams a second over %s flows in turn as over one.", v.Name, ratio.ratio(), grouped(int64(most))))
		}
	}
	return facts
}
