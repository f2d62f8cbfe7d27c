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
	for _, wrong := range [][3][]string{{{"5"}, nil, nil}, {nil, {"apache"}, nil}, {nil, nil, {"speed"}}} {
		if _, err := choose(all, wrong[0], wrong[1], wrong[2]); err == nil || !strings.Contains(err.Error(), "there are") {
			t.Errorf("%v: %v, want an error with those there are", wrong, err)
		}
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
