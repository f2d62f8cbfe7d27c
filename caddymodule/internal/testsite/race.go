//go:build race

package testsite

// Dropped is how many allocations more a request may cost, as the race detector
// empties pools at random.
const Dropped = 4
