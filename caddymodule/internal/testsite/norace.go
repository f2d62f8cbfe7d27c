//go:build !race

package testsite

// Dropped is how many allocations more a request may cost, because pools lose what
// they hold: none, but under the race detector.
const Dropped = 0
