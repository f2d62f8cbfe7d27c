package gauge

import (
	"slices"
	"time"
)

// Percentile returns the smallest time that at least p per cent of the times do
// not exceed (nearest rank). There must be one.
func Percentile(times []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}
