package command

import (
	"bytes"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// screen is where a command writes what people read.
type screen struct {
	io.Writer
	width    int // in columns; 0: not a terminal, where a row is always one line
	coloured bool
}

// screenOf describes the standard output of a command. There is no colour if NO_COLOR is set
// (no-color.org).
func screenOf(cmd *cobra.Command) screen {
	s := screen{Writer: cmd.OutOrStdout()}
	if f, ok := s.Writer.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			s.width = width
		}
		s.coloured = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return s
}

// watchInterval is the least time between two pages.
const watchInterval = time.Second

// clear goes to the top left of a terminal and clears it (ECMA-48).
const clear = "\x1b[H\x1b[2J"

// show writes a page: once, or each second until the command is interrupted. On a terminal a
// page replaces the previous one.
func show(cmd *cobra.Command, watch bool, write func(screen) error) error {
	for {
		began := time.Now()
		page, to := new(bytes.Buffer), screenOf(cmd)
		out := to.Writer
		if watch && to.width > 0 {
			page.WriteString(clear)
		}
		to.Writer = page
		if err := write(to); err != nil {
			return err
		}
		if _, err := page.WriteTo(out); err != nil || !watch {
			return err
		}
		// Reading a large flow table must not take more than a tenth of the time.
		select {
		case <-time.After(max(watchInterval, 10*time.Since(began))):
		case <-cmd.Context().Done():
			return nil
		}
	}
}
