package elector

import (
	"slices"
	"strings"
	"testing"
)

func TestParseNotice(t *testing.T) {
	for line, want := range map[string]Notice{
		`INSTANCE "VI_lan" MASTER 100`:              {"VI_lan", Master},
		`INSTANCE "VI_lan" BACKUP 100`:              {"VI_lan", Backup},
		`GROUP "both sides" FAULT 0`:                {"both sides", Fault},
		`INSTANCE "a "quoted" name" STOP 1`:         {`a "quoted" name`, Stop},
		`INSTANCE "VI_lan" MASTER_RX_LOWER_PRI 100`: {"VI_lan", RivalLeft},
		`INSTANCE "VI_lan" DELETED 0`:               {"VI_lan", Deleted},
		`INSTANCE "VI_lan" MASTER`:                  {"VI_lan", Master},
		`INSTANCE "VI_lan" MASTER_PRIORITY 100`:     {},
		`INSTANCE "VI_lan" BACKUP_PRIORITY 100`:     {},
		`VS [192.0.2.1]:tcp:80 UP`:                  {},
		`INSTANCE "VI_lan"`:                         {},
		`INSTANCE "" MASTER 100`:                    {},
		`INSTANCE VI_lan MASTER 100`:                {},
		`INSTANCE "VI_lan`:                          {},
		`instance "VI_lan" MASTER 100`:              {},
		` INSTANCE "VI_lan" MASTER 100`:             {},
		`INSTANCE "0"MASTER 1`:                      {},
		"":                                          {},
	} {
		got, ok := ParseNotice(line)
		if got != want || ok != (want != Notice{}) {
			t.Errorf("%q is %+v, %v, want %+v", line, got, ok, want)
		}
	}
}

// FuzzLines checks that lines do not depend on how they are cut when they are read, and that a
// notice is one that its line begins with.
func FuzzLines(f *testing.F) {
	f.Add("INSTANCE \"VI_lan\" MASTER 100\nGROUP \"g\" BACKUP 0\n", 7)
	f.Add(strings.Repeat("x", 2*maxLine)+"\nINSTANCE \"a\" STOP 1\n", 100)
	f.Add("\n\nINSTANCE \"\" MASTER\n", 1)
	f.Fuzz(func(t *testing.T, text string, size int) {
		var want, got []string
		for line := range strings.Lines(text) {
			if whole, ended := strings.CutSuffix(line, "\n"); ended && len(whole) <= maxLine {
				want = append(want, whole)
			}
		}
		var l lines
		for part := range slices.Chunk([]byte(text), max(1, size)) {
			l.add(part, func(line string) { got = append(got, line) })
			if len(l.begun) > maxLine {
				t.Fatalf("%d bytes of a line are kept", len(l.begun))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the lines are %q, want %q", got, want)
		}
		for _, line := range got {
			n, ok := ParseNotice(line)
			if ok && !strings.Contains(line, `"`+n.Name+`" `) || !ok && n != (Notice{}) {
				t.Errorf("%q is %+v", line, n)
			}
		}
	})
}
