//go:build soak

package integration_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// The flags by which `make soak` calls TestSoak.
var (
	soakOnly  = flag.String("only", "", "comma-separated `parts` to run; default all")
	soakQuick = flag.Bool("quick", false, "a hundredth of everything, to try it: its figures mean little")
	soakDocs  = flag.String("docs", "", "the `directory` whose reliability.md gets the figures; default none")
	soakBuild = flag.String("build", "../build", "the `directory` that gets soak-<part>.json with the figures")
)

// soakParts are the tests that take too long for `make test`. Each runs on every data path. It
// checks what must hold, and returns its figures for docs/evidence/reliability.md, in the
// order of the table.
var soakParts = []struct {
	name string
	run  func(t *testing.T, datapath string) []figure
}{
	{"faults", soakFaults},
	{"frames", soakFrames},
	{"floods", soakFloods},
	{"ipv6", soakIPv6},
	{"shares", soakShares},
	{"rates", soakRates},
	{"names", soakNames},
	{"turnover", soakTurnover},
	{"reloads", soakReloads},
	{"upgrades", soakUpgrades},
	{"restarts", soakRestarts},
	{"failover", soakFailover},
}

// figure is a row of a part's table.
type figure struct {
	What  string `json:"what"`
	Value string `json:"value"`
}

// TestSoak runs the parts of `make soak`.
func TestSoak(t *testing.T) {
	only := strings.FieldsFunc(*soakOnly, func(r rune) bool { return r == ',' || r == ' ' })
	var names []string
	for _, part := range soakParts {
		names = append(names, part.name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			t.Fatalf("no part %q: there are %s", name, strings.Join(names, ", "))
		}
	}
	for _, part := range soakParts {
		if len(only) > 0 && !slices.Contains(only, part.name) {
			continue
		}
		t.Run(part.name, func(t *testing.T) {
			report := soakReport{Part: part.name, Began: time.Now(), Quick: *soakQuick, Datapaths: make(map[string][]figure)}
			onEachInTurn(t, func(t *testing.T, datapath string) {
				report.Datapaths[datapath] = part.run(t, datapath)
			})
			if err := report.write(); err != nil {
				t.Error(err)
			}
		})
	}
}

// soaked returns how many of n things a part does: all, or a hundredth in a quick run.
func soaked(n int) int {
	if *soakQuick {
		return n / 100
	}
	return n
}

// soakReport has the figures of a part.
type soakReport struct {
	Part      string              `json:"part"`
	Began     time.Time           `json:"began"`
	Quick     bool                `json:"quick"`
	Machine   gauge.Machine       `json:"machine"`
	Datapaths map[string][]figure `json:"datapaths"`
}

// write writes the report as JSON, and into the documentation if -docs is given.
func (r soakReport) write() (err error) {
	if r.Machine, err = gauge.ThisMachine(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*soakBuild, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*soakBuild, "soak-"+r.Part+".json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	if *soakDocs == "" || r.Quick {
		return nil
	}
	path := filepath.Join(*soakDocs, "reliability.md")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin := fmt.Sprintf("<!-- %s: written by make soak -->\n", r.Part)
	if page, err = gauge.Replace(page, begin, "<!-- end of "+r.Part+" -->\n", r.markdown()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, page, 0o644)
}

// markdown returns the part's table, with the command that repeats it.
func (r soakReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n`make soak SOAK='-only %s'`, on %s, %s:\n\n| |", r.Part, r.Machine, r.Began.UTC().Format("2006-01-02"))
	datapaths := []string{"kernel", "userspace"}
	for _, name := range datapaths {
		fmt.Fprintf(&b, " %s |", name)
	}
	b.WriteString("\n|---|---:|---:|\n")
	for i, row := range r.Datapaths[datapaths[0]] {
		fmt.Fprintf(&b, "| %s |", row.What)
		for _, name := range datapaths {
			value := "–"
			if rows := r.Datapaths[name]; i < len(rows) {
				value = rows[i].Value
			}
			fmt.Fprintf(&b, " %s |", value)
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.String()
}
