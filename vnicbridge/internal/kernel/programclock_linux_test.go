package kernel

import "testing"

func TestParseMonotonicOffset(t *testing.T) {
	for offsets, want := range map[string]int64{
		"monotonic           0         0\nboottime            0         0\n": 0,
		"monotonic      259200         7\nboottime           86400      0\n": 259_200_000_000_007,
		"monotonic         -10 500000000\nboottime            0         0\n": -9_500_000_000,
		"": 0,
	} {
		if got := parseMonotonicOffset(offsets); got != want {
			t.Errorf("%q: %d ns, want %d", offsets, got, want)
		}
	}
}
