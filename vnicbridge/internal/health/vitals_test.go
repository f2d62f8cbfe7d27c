package health

import (
	"errors"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// How many checks it takes, in a row, is what the configuration says; a check in
// between that says otherwise begins the row again.
func TestHealthChecksInARow(t *testing.T) {
	h := config.Health{Fails: 3, Passes: 2}.WithDefaults()
	for _, test := range []struct{ results, healthy string }{
		{"--", "11"}, {"---", "110"}, {"--+---", "111110"}, {"---+-++", "1100001"}, {"---++", "11001"}, {"---++---", "11001110"},
	} {
		var v vitals
		for i, result := range test.results {
			var err error
			if result == '-' {
				err = errors.New("no answer")
			}
			v.count(err, h)
			if got, want := v.problem() == "", test.healthy[i] == '1'; got != want {
				t.Errorf("after %s: healthy is %v, want %v", test.results[:i+1], got, want)
			}
		}
	}
}
