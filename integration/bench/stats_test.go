package main

import (
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{9, 1, 5}, Spread{5, 1, 9}},
		{[]float64{4, 1, 3, 2}, Spread{2.5, 1, 4}},
	} {
		before := slices.Clone(c.values)
		if got, ok := spreadOf(c.values); !ok || got != c.want {
			t.Errorf("spread of %v: %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(c.values, before) {
			t.Errorf("%v became %v", before, c.values)
		}
	}
	if _, ok := spreadOf(nil); ok {
		t.Error("nothing has a spread")
	}
}

// TestRatios checks that a ratio is of the same round, and only of rounds that have both
// figures.
func TestRatios(t *testing.T) {
	s := &Suite{Rounds: []map[string]Figures{
		{baseline: {"bulk": 100}, "a": {"bulk": 50, "less": 25}},
		{baseline: {"bulk": 10}, "a": {"bulk": 9}},
		{baseline: {}, "a": {"bulk": 1}},
		{baseline: {"bulk": 10}, "a": {}},
	}}
	if got, want := s.ratios("a", baseline, "bulk"), []float64{0.5, 0.9}; !slices.Equal(got, want) {
		t.Errorf("ratios %v, want %v", got, want)
	}
	if got, want := s.quotients("a", "less", "a", "bulk"), []float64{0.5}; !slices.Equal(got, want) {
		t.Errorf("quotients %v, want %v", got, want)
	}
	if got, want := s.figures("a", "bulk"), []float64{50, 9, 1}; !slices.Equal(got, want) {
		t.Errorf("figures %v, want %v", got, want)
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{
		0.456: "0.46", 9.999: "10.00", 12.34: "12.3", 123.4: "123", 1234.5: "1,235", 123456: "123,456", 1234567: "1,234,567",
	} {
		if got := number(value); got != want {
			t.Errorf("%v: %s, want %s", value, got, want)
		}
	}
}

func TestCompact(t *testing.T) {
	for value, want := range map[float64]string{0: "0", 2: "2", 0.95: "0.95", 256: "256", 210.5: "210", 12345: "12,345"} {
		if got := compact(value); got != want {
			t.Errorf("%v: %s, want %s", value, got, want)
		}
	}
}
