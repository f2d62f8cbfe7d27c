package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A warning or a failure is the text of a cell that a terminal shows in colour.
type (
	warning string
	failure string
)

// gap is the number of columns between two columns of a table.
const gap = 2

// grid is a table that fits the screen.
type grid struct {
	heading []string
	details []string // columns that a narrow screen does without
	rows    [][]any
}

func newGrid(heading ...string) *grid { return &grid{heading: heading} }

// row adds a row. An empty cell becomes a dash.
func (g *grid) row(cells ...any) {
	for i, cell := range cells {
		if fmt.Sprint(cell) == "" {
			cells[i] = "-"
		}
	}
	g.rows = append(g.rows, cells)
}

// write writes the table. If it is too wide, it does without the details. If it is still too
// wide, cells wrap at spaces. If even that does not fit, each row becomes a record.
func (g *grid) write(s screen) {
	widths := g.widths()
	if s.width > 0 && total(widths) > s.width {
		g = g.without(g.details)
		var ok bool
		if widths, ok = g.shrunk(s.width); !ok {
			g.writeRecords(s)
			return
		}
	}
	lines := [][]any{toCells(g.heading)}
	render(s, append(lines, g.rows...), widths)
}

// writeRecords writes each row as a list of its columns, one on a line.
func (g *grid) writeRecords(s screen) {
	for n, row := range g.rows {
		if n > 0 {
			fmt.Fprintln(s)
		}
		var lines [][]any
		for i, name := range g.heading {
			lines = append(lines, []any{name, row[i]})
		}
		name := longest(g.heading)
		render(s, lines, []int{name, max(1, s.width-name-gap)})
	}
}

// render writes lines whose cells wrap at the widths. Without a terminal nothing wraps.
func render(s screen, lines [][]any, widths []int) {
	w := table.NewWriter()
	w.SetOutputMirror(s)
	w.SetStyle(table.Style{
		Box:     table.BoxStyle{PaddingRight: strings.Repeat(" ", gap)},
		Options: table.OptionsNoBordersAndSeparators,
	})
	w.SuppressTrailingSpaces()
	if s.width > 0 {
		var columns []table.ColumnConfig
		for i, width := range widths {
			columns = append(columns, table.ColumnConfig{Number: i + 1, WidthMax: width, WidthMaxEnforcer: text.WrapSoft})
		}
		w.SetColumnConfigs(columns)
	}
	for _, line := range lines {
		var row table.Row
		for _, cell := range line {
			row = append(row, s.paint(cell))
		}
		w.AppendRow(row)
	}
	w.Render()
}

// paint returns the text of a cell, coloured if the screen has colours (ECMA-48).
func (s screen) paint(cell any) string {
	colour := ""
	switch cell.(type) {
	case warning:
		colour = "33" // yellow
	case failure:
		colour = "31" // red
	}
	if colour == "" || !s.coloured {
		return fmt.Sprint(cell)
	}
	return fmt.Sprintf("\x1b[%sm%v\x1b[0m", colour, cell)
}

// without returns the table without some columns.
func (g *grid) without(columns []string) *grid {
	left := new(grid)
	keep := func(i int) bool { return !slices.Contains(columns, g.heading[i]) }
	for i, name := range g.heading {
		if keep(i) {
			left.heading = append(left.heading, name)
		}
	}
	for _, row := range g.rows {
		var cells []any
		for i, cell := range row {
			if keep(i) {
				cells = append(cells, cell)
			}
		}
		left.rows = append(left.rows, cells)
	}
	return left
}

// widths returns the width of each column if nothing wraps.
func (g *grid) widths() []int {
	return g.each(func(texts []string) int { return longest(texts) })
}

// shrunk returns widths with which the table fits. It takes from the widest column that can
// still wrap at a space. ok is false if that is not enough.
func (g *grid) shrunk(width int) (widths []int, ok bool) {
	widths = g.widths()
	least := g.each(func(texts []string) int { return longest(strings.Fields(strings.Join(texts, " "))) })
	for total(widths) > width {
		widest := -1
		for i, w := range widths {
			if w > least[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return nil, false
		}
		widths[widest]--
	}
	return widths, true
}

// each returns a number for each column, by its heading and cells.
func (g *grid) each(of func(texts []string) int) []int {
	numbers := make([]int, len(g.heading))
	for i, name := range g.heading {
		texts := []string{name}
		for _, row := range g.rows {
			texts = append(texts, fmt.Sprint(row[i]))
		}
		numbers[i] = of(texts)
	}
	return numbers
}

func total(widths []int) int {
	sum := gap * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	return sum
}

func longest(texts []string) (most int) {
	for _, t := range texts {
		most = max(most, len([]rune(t)))
	}
	return most
}

func toCells(texts []string) (cells []any) {
	for _, t := range texts {
		cells = append(cells, t)
	}
	return cells
}
