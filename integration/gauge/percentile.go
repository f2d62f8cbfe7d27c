package gauge

import (
	"slices"
	"time"
)

// Percentile returns the smallest of the times that at least p per cent of them do not exceed
// (nearest rank). times must not be empty.
func Percentile(times []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}
