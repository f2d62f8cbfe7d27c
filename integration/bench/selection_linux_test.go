package main

import (
	"flag"
	"slices"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	all := suites(fullPace)
	whole, err := choose(all, nil, nil, nil)
	if err != nil || len(whole) != len(all) {
		t.Fatalf("%d suites (%v), want all %d", len(whole), err, len(all))
	}
	some, err := choose(all, []string{"4"}, []string{"caddy", "nginx"}, []string{"bulk", "https"})
	if err != nil {
		t.Fatal(err)
	}
	if len(some) != 2 || some[0].name != bridgeSuite || some[1].name != groupsSuite {
		t.Fatalf("suites %v, want bridge and groups", some)
	}
	if got, want := variantNames(some), []string{baseline, "nginx", "caddy"}; !slices.Equal(got, want) {
		t.Errorf("variants %v, want %v", got, want)
	}
	if got, want := partNames(some), []string{"bulk", "https"}; !slices.Equal(got, want) {
		t.Errorf("parts %v, want %v", got, want)
	}
	if names, err := choose(all, []string{"6"}, nil, []string{"names"}); err != nil || len(names) != 1 || names[0].name != namesSuite6 {
		t.Errorf("suites %v (%v), want %s", names, err, namesSuite6)
	}
	for _, wrong := range [][3][]string{{{"5"}, nil, nil}, {nil, {"apache"}, nil}, {nil, nil, {"speed"}}} {
		if _, err := choose(all, wrong[0], wrong[1], wrong[2]); err == nil || !strings.Contains(err.Error(), "there are") {
			t.Errorf("%v: %v, want an error with those there are", wrong, err)
		}
	}
}

// TestSuitesAreReported checks that the report has every suite, in the order in which they run.
func TestSuitesAreReported(t *testing.T) {
	var run, reported []string
	for _, s := range suites(fullPace) {
		run = append(run, s.name)
	}
	for _, info := range suiteInfos {
		reported = append(reported, info.name)
	}
	if !slices.Equal(run, reported) {
		t.Errorf("the suites %v run, and %v are reported", run, reported)
	}
}

// TestHelpNamesParts checks that -help names exactly the parts that exist.
func TestHelpNamesParts(t *testing.T) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	new(settings).register(flags)
	if want := strings.Join(partNames(suites(fullPace)), ", "); !strings.Contains(flags.Lookup("only").Usage, want) {
		t.Errorf("-only: %q, want it to name %s", flags.Lookup("only").Usage, want)
	}
}
