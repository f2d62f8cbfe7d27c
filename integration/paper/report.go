package paper

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// reportWidth is the number of columns that the report fills, as a projector shows them.
const reportWidth = 80

// A Verdict says how what was found relates to what the paper shows.
type Verdict int

// The verdicts.
const (
	Same    Verdict = iota // as in the paper
	Differs                // not as in the paper: the lab fails
	Note                   // shown beside the paper's, and free to differ
)

// Check is one line of the report: a fact of the paper beside ours.
type Check struct {
	What, Paper, Here string
	Verdict           Verdict
}

// same compares two values that must agree.
func same(what, paper, here string) Check { return expect(what, paper, here, paper == here) }

// expect is for values that agree without being the same text.
func expect(what, paper, here string, ok bool) Check {
	c := Check{What: what, Paper: paper, Here: here}
	if !ok {
		c.Verdict = Differs
	}
	return c
}

func note(what, paper, here string) Check { return Check{what, paper, here, Note} }

// Section is one figure or passage of the paper, played.
type Section struct {
	Figure   string // as in "Fig-10"
	Title    string
	Expected string // the title of the left column; default "paper"
	Checks   []Check
	Body     string // printed below the checks as it is
	Gist     Gist
}

// Gist is a section's line in the summary: the paper's result and ours.
type Gist struct{ Paper, Here string }

func (s Section) differing() (differing []Check) {
	for _, c := range s.Checks {
		if c.Verdict == Differs {
			differing = append(differing, c)
		}
	}
	return differing
}

func (s Section) checked() (n int) {
	for _, c := range s.Checks {
		if c.Verdict != Note {
			n++
		}
	}
	return n
}

// Report writes the lab's results as plain text.
type Report struct {
	w        io.Writer
	terminal bool // progress may overwrite its line
	color    bool
	parts    []part
}

// part is a titled run of sections.
type part struct {
	title    string
	sections []Section
}

// NewReport writes to w, with colour and live progress only where w is a
// terminal, and without colour where NO_COLOR is set (no-color.org).
func NewReport(w io.Writer) *Report {
	r := &Report{w: w}
	if file, ok := w.(*os.File); ok {
		r.terminal = term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
		r.color = r.terminal && os.Getenv("NO_COLOR") == ""
	}
	return r
}

// Text writes lines as they are.
func (r *Report) Text(text string) {
	r.endProgress()
	fmt.Fprintln(r.w, strings.TrimRight(text, "\n"))
}

// Progress shows on a terminal what is being done, until anything else is
// written.
func (r *Report) Progress(format string, args ...any) {
	if r.terminal {
		fmt.Fprintf(r.w, "\r\x1b[K  "+format, args...)
	}
}

// Prompt asks the reader for a line.
func (r *Report) Prompt(text string) {
	r.endProgress()
	fmt.Fprintf(r.w, "\n  [%s] ", text)
}

func (r *Report) endProgress() {
	if r.terminal {
		fmt.Fprint(r.w, "\r\x1b[K")
	}
}

// Part begins a part of several sections.
func (r *Report) Part(title string) {
	r.endProgress()
	r.parts = append(r.parts, part{title: title})
	r.heading(title)
}

func (r *Report) heading(title string) {
	fmt.Fprintf(r.w, "\n\n%s\n%s\n", r.bold(title), strings.Repeat("═", reportWidth))
}

// Section writes a section of the present part: its checks in three columns,
// then its body.
func (r *Report) Section(s Section) {
	r.endProgress()
	if len(r.parts) == 0 {
		r.parts = append(r.parts, part{})
	}
	last := &r.parts[len(r.parts)-1]
	last.sections = append(last.sections, s)
	fmt.Fprintf(r.w, "\n%s\n%s\n", r.bold(strings.TrimSpace(s.Figure+"  "+s.Title)), strings.Repeat("─", reportWidth))
	what, paper := 0, 0
	for _, c := range s.Checks {
		what = max(what, utf8.RuneCountInString(c.What))
		paper = max(paper, utf8.RuneCountInString(c.Paper))
	}
	if s.Expected == "" {
		s.Expected = "paper"
	}
	paper = max(paper, len(s.Expected))
	fmt.Fprintf(r.w, "    %s  %s  here\n", pad("", what), pad(s.Expected, paper))
	for _, c := range s.Checks {
		here := "  " + c.Here
		if what+paper+utf8.RuneCountInString(c.Here) > reportWidth-8 { // the line would be too long
			if here = "  the same"; c.Here != c.Paper {
				here = "\n    " + pad("", what) + "  here: " + c.Here
			}
		}
		fmt.Fprintf(r.w, "  %s %s  %s%s\n", r.mark(c.Verdict), pad(c.What, what), pad(c.Paper, paper), here)
	}
	if s.Body != "" {
		fmt.Fprintf(r.w, "\n%s\n", strings.TrimRight(s.Body, "\n"))
	}
}

// Summary writes one line for each section, part by part, and tells how many
// checks there were and how many of them differ.
func (r *Report) Summary() (checked, differing int) {
	r.endProgress()
	r.heading("Summary")
	paper, here := r.gistWidths()
	fmt.Fprintf(r.w, "    %s %s %s checks\n", pad("", 9), pad("paper", paper), pad("here", here))
	for _, p := range r.parts {
		fmt.Fprintf(r.w, "\n  %s\n", r.bold(p.title))
		for _, s := range p.sections {
			differ := s.differing()
			checked += s.checked()
			differing += len(differ)
			mark := r.mark(Same)
			if len(differ) > 0 {
				mark = r.mark(Differs)
			}
			fmt.Fprintf(r.w, "  %s %s %s %s %d/%d\n", mark, pad(s.Figure, 9),
				pad(s.Gist.Paper, paper), pad(s.Gist.Here, here), s.checked()-len(differ), s.checked())
			if len(differ) > 0 {
				fmt.Fprintf(r.w, "    differs: %s\n", names(differ))
			}
		}
	}
	return checked, differing
}

func (r *Report) gistWidths() (paper, here int) {
	paper, here = len("paper"), len("here")
	for _, p := range r.parts {
		for _, s := range p.sections {
			paper = max(paper, utf8.RuneCountInString(s.Gist.Paper))
			here = max(here, utf8.RuneCountInString(s.Gist.Here))
		}
	}
	return paper, here
}

func names(checks []Check) string {
	var all []string
	for _, c := range checks {
		all = append(all, c.What)
	}
	return strings.Join(all, ", ")
}

func (r *Report) mark(v Verdict) string {
	switch v {
	case Same:
		return r.paint("32", "✓")
	case Differs:
		return r.paint("31;1", "✗")
	default:
		return "·"
	}
}

func (r *Report) bold(text string) string { return r.paint("1", text) }

// paint wraps text in an SGR sequence (ECMA-48) where colour is wanted.
func (r *Report) paint(sgr, text string) string {
	if !r.color {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// pad fills text with spaces to a width in characters.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// ms is a duration in milliseconds, the unit of the paper's figures.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
