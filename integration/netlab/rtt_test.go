package netlab

import (
	"testing"
	"time"
)

func TestSumUpRTT(t *testing.T) {
	for _, test := range []struct {
		name  string
		times []time.Duration
		want  string
	}{
		{"none", nil, "0.000/0.000/0.000/0.000"},
		{"one", []time.Duration{1840 * time.Microsecond}, "1.840/1.840/1.840/0.000"},
		// The standard deviation of 2, 4, 4, 4, 5, 5, 7, 9 is 2, their mean 5.
		{"eight", []time.Duration{2e6, 4e6, 4e6, 4e6, 5e6, 5e6, 7e6, 9e6}, "2.000/5.000/9.000/2.000"},
		{"unordered", []time.Duration{3e6, 1e6, 2e6}, "1.000/2.000/3.000/0.816"},
	} {
		if got := SumUpRTT(test.times).String(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}
