//go:build race

package http1

// dropped is what pools lose under the race detector, which empties them at random.
const dropped = 4
