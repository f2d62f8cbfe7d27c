package main

import (
	"bytes"
	"fmt"
	"html"
)

// chart is a grid of bar charts, two in a row.
type chart struct {
	file        string // in the page's directory
	title, note string
	panels      []panel
}

// panel is a bar chart of one metric.
type panel struct {
	title string
	mark  float64 // the value at which a line is drawn; 0: no line
	full  float64 // the value of a bar of full length
	bars  []bar
}

// bar shows a median and its spread.
type bar struct {
	label, value string
	Spread
	ours bool
}

// Measures of a chart, in its own units.
const (
	chartWidth  = 900
	chartTop    = 76
	panelWidth  = 430
	panelHead   = 34
	panelGap    = 24
	rowHeight   = 22
	barHeight   = 14
	labelWidth  = 86
	barRoom     = 270 // for the longest bar, without its value in figures
	chartMargin = 20
)

// chartStyle follows the reader's colour scheme, as docs/overview.svg does. The background
// is part of it.
const chartStyle = `
    .page { fill: #ffffff } text { fill: #1f2328 } .dim { fill: #59636e } .title { font-weight: 600 }
    .ours { fill: #0969da } .other { fill: #afb8c1 } .spread { stroke: #1f2328 } .mark { stroke: #59636e; stroke-dasharray: 4 3 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 } text { fill: #f0f6fc } .dim { fill: #9198a1 }
      .ours { fill: #4493f8 } .other { fill: #3d444d } .spread { stroke: #f0f6fc } .mark { stroke: #9198a1 }
    }
`

// svg draws the chart.
func (c chart) svg() []byte {
	var body bytes.Buffer
	y := chartTop
	for i := 0; i < len(c.panels); i += 2 {
		row := c.panels[i:min(i+2, len(c.panels))]
		height := 0
		for column, p := range row {
			p.draw(&body, chartMargin+column*(panelWidth+panelGap/2), y)
			height = max(height, p.height())
		}
		y += height + panelGap
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="14" role="img" aria-labelledby="title">`+"\n", chartWidth, y)
	fmt.Fprintf(&b, "  <title id=\"title\">%s</title>\n  <style>%s  </style>\n", html.EscapeString(c.title), chartStyle)
	fmt.Fprintf(&b, "  <rect class=\"page\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n", chartWidth, y)
	fmt.Fprintf(&b, "  <text class=\"title\" x=\"%d\" y=\"34\" font-size=\"17\">%s</text>\n", chartMargin, html.EscapeString(c.title))
	fmt.Fprintf(&b, "  <text class=\"dim\" x=\"%d\" y=\"55\" font-size=\"12\">%s</text>\n", chartMargin, html.EscapeString(c.note))
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (p panel) height() int { return panelHead + len(p.bars)*rowHeight }

func (p panel) draw(b *bytes.Buffer, x, y int) {
	origin := float64(x + labelWidth)
	scale := barRoom / p.full
	fmt.Fprintf(b, "  <text class=\"title\" x=\"%d\" y=\"%d\">%s</text>\n", x, y+14, html.EscapeString(p.title))
	for i, bar := range p.bars {
		top := y + panelHead + i*rowHeight - 8
		middle := float64(top) + barHeight/2.0
		class := "other"
		if bar.ours {
			class = "ours"
		}
		fmt.Fprintf(b, "  <text x=\"%d\" y=\"%.1f\" font-size=\"13\" text-anchor=\"end\">%s</text>\n", x+labelWidth-8, middle+4.5, html.EscapeString(bar.label))
		fmt.Fprintf(b, "  <rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n", class, origin, top, bar.Median*scale, barHeight)
		if bar.Min < bar.Max {
			fmt.Fprintf(b, "  <line class=\"spread\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", origin+bar.Min*scale, origin+bar.Max*scale, middle, middle)
		}
		fmt.Fprintf(b, "  <text class=\"dim\" x=\"%.1f\" y=\"%.1f\" font-size=\"12\">%s</text>\n", origin+max(bar.Max, p.mark)*scale+8, middle+4, bar.value)
	}
	if p.mark > 0 {
		at := origin + p.mark*scale
		fmt.Fprintf(b, "  <line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", at, at, y+panelHead-12, y+p.height()-8)
	}
}
