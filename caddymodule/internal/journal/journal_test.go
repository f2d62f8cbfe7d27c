package journal

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"testing"
)

// The journal keeps the last events, with all their attributes, also those that the
// log leaves out; what is below info is the log's alone.
func TestJournal(t *testing.T) {
	j, logged := new(Journal), new(silent)
	log := slog.New(j.Handler(logged)).With("segment", "a")
	log.Debug("a detail")
	log.Warn("it is unhealthy", "reason", fmt.Errorf("refused"))
	got := j.List()
	if len(got) != 1 || got[0].ID != 1 || got[0].Message != "it is unhealthy" || got[0].Level != slog.LevelWarn || got[0].Time.IsZero() ||
		!maps.Equal(got[0].Attributes, map[string]string{"segment": "a", "reason": "refused"}) {
		t.Errorf("kept is %+v", got)
	}
	if *logged != 0 {
		t.Errorf("a log at level error got %d records", *logged)
	}
	log.Error("a fault")
	if *logged != 1 {
		t.Errorf("the log got %d records, want the error", *logged)
	}
	for i := range 2 * size {
		log.Info("event", "n", i)
	}
	all := j.List()
	if first, last := all[0], all[len(all)-1]; len(all) != size || first.ID != size+3 || last.ID != 2*size+2 || last.Attributes["n"] != fmt.Sprint(2*size-1) {
		t.Errorf("of many events %d are kept, from %+v to %+v", len(all), first, last)
	}
}

// silent counts records at level error, and takes no others.
type silent int

func (s *silent) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (s *silent) Handle(context.Context, slog.Record) error        { *s++; return nil }
func (s *silent) WithAttrs([]slog.Attr) slog.Handler               { return s }
func (s *silent) WithGroup(string) slog.Handler                    { return s }
