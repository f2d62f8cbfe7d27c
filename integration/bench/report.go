package main

import (
	"fmt"
	"io"
	"strings"
)

// printResult writes the report for a terminal: for each metric the variants,
// with their medians and their ratios to the baseline.
func printResult(w io.Writer, r *Result) error {
	var b strings.Builder
	fmt.Fprintln(&b, machineLine(r)+".")
	for _, m := range metrics {
		fmt.Fprintf(&b, "\n%s\n", m.heading())
		for _, v := range r.Variants {
			median, ok := spreadOf(r.figures(v.Name, m.Name))
			if !ok {
				continue
			}
			line := fmt.Sprintf("  %-10s %10s", v.Name, number(median.Median))
			if ratio, ok := spreadOf(r.ratios(v.Name, baseline, m.Name)); ok && v.Name != baseline {
				line += "   " + ratio.ratio()
			}
			fmt.Fprintln(&b, line)
		}
	}
	fmt.Fprintln(&b)
	for _, fact := range facts(r) {
		fmt.Fprintln(&b, fact)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// heading is the metric's title with its unit, unless the title says it.
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
	line := fmt.Sprintf("Rounds: %d, on %d cores (%s), %d MiB, Linux %s, %s",
		len(r.Rounds), r.Machine.Cores, r.Machine.CPU, r.Machine.MemoryMiB, r.Machine.Kernel, r.Began.UTC().Format("2006-01-02"))
	if r.Quick {
		line += ". A quick run: its figures mean little"
	}
	return line
}

// facts are what does not fit the table, a sentence each.
func facts(r *Result) (facts []string) {
	for _, v := range r.Variants {
		if ratios, ok := spreadOf(r.ratios(v.Name, "plain", "bulk")); ok && v.Ours {
			facts = append(facts, fmt.Sprintf("%s carries 1 MiB files %s times as fast as the plain bridge.", v.Name, ratios.ratio()))
		}
	}
	for _, v := range r.Variants {
		if broken := total(r.figures(v.Name, brokenRequests)); broken > 0 {
			facts = append(facts, fmt.Sprintf("%s: %s requests of all rounds had their connection refused or broken, or timed out.", v.Name, number(broken)))
		}
	}
	for _, v := range r.Variants {
		if loss, ok := r.Reloads[v.Name]; ok {
			facts = append(facts, fmt.Sprintf("%s lost %d of %s datagrams of one flow, sent at %s a second over %d reloads.",
				v.Name, loss.Lost, grouped(int64(loss.Sent)), grouped(reloadRate), loss.Reloads))
		}
	}
	for _, v := range r.Variants {
		for _, load := range r.Loads[v.Name] {
			facts = append(facts, load.fact(v.Name))
		}
	}
	return facts
}

func (l Load) fact(variant string) string {
	fact := fmt.Sprintf("%s, flow table of %s: %s datagrams a second delivered, spread over all flows; memory %d MiB",
		variant, grouped(int64(l.Flows)), number(l.PacketRate), l.RSS>>20)
	if l.Flows >= 1e5 {
		fact += fmt.Sprintf(", %d bytes more for each flow than with none (%d are stated)", (l.RSS-l.RSSBefore)/int64(l.Flows), l.Stated)
	}
	return fact + "."
}
