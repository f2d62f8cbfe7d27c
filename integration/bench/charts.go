package main

import "strings"

// charts makes the charts of a suite. A chart without measured figures is left out.
func (s *Suite) charts() (drawn []chart) {
	for _, c := range s.chartsOf() {
		if len(c.panels) > 0 {
			drawn = append(drawn, c)
		}
	}
	return drawn
}

func (s *Suite) chartsOf() []chart {
	switch s.Name {
	case bridgeSuite:
		return []chart{
			s.ratioChart("benchmarks-throughput.svg", "Throughput as a ratio to direct"),
			s.figureChart("benchmarks-latency.svg", "Round trip in microseconds", "shorter is better",
				func(m Metric) bool { return m.Unit == "µs" }),
		}
	case tableSuite:
		return []chart{s.figureChart("benchmarks-table.svg", "Datagrams a second over many flows", "longer is better",
			func(m Metric) bool { return strings.HasPrefix(m.Name, packetsPrefix) })}
	case groupsSuite:
		return []chart{s.ratioChart("benchmarks-groups.svg", "Groups by URL path: throughput as a ratio to direct")}
	case namesSuite:
		return []chart{s.ratioChart("benchmarks-names.svg", "Segments by host name: throughput as a ratio to direct")}
	default:
		return nil
	}
}

// ratioChart has a panel for each metric of which more is better. All panels have one scale.
func (s *Suite) ratioChart(file, title string) chart {
	c := chart{file: file, title: title, note: "longer is better · dashed: direct · thin line: lowest to highest round"}
	for _, m := range s.info().metrics {
		if m.Lower {
			continue
		}
		c.add(s, m, 1, func(v VariantInfo) []float64 {
			if v.Name == baseline {
				return nil
			}
			return s.ratios(v.Name, baseline, m.Name)
		})
	}
	c.shareScale()
	return c
}

// figureChart has a panel for each metric for which shown returns true.
func (s *Suite) figureChart(file, title, note string, shown func(Metric) bool) chart {
	c := chart{file: file, title: title, note: note + " · thin line: lowest to highest round"}
	for _, m := range s.info().metrics {
		if shown(m) {
			c.add(s, m, 0, func(v VariantInfo) []float64 { return s.figures(v.Name, m.Name) })
		}
	}
	return c
}

// add adds a panel, unless no variant has the metric.
func (c *chart) add(s *Suite, m Metric, mark float64, values func(VariantInfo) []float64) {
	p := panel{title: m.Title, mark: mark}
	for _, v := range s.Variants {
		if spread, ok := spreadOf(values(v)); ok {
			p.bars = append(p.bars, bar{label: v.Name, value: number(spread.Median), Spread: spread, ours: v.Ours})
		}
	}
	if len(p.bars) == 0 {
		return
	}
	p.full = mark
	for _, b := range p.bars {
		p.full = max(p.full, b.Max)
	}
	c.panels = append(c.panels, p)
}

// shareScale gives all panels the same scale.
func (c *chart) shareScale() {
	full := 0.0
	for _, p := range c.panels {
		full = max(full, p.full)
	}
	for i := range c.panels {
		c.panels[i].full = full
	}
}
