//go:build race

package fastproxy

// dropped is what pools lose under the race detector, which empties them at random.
const dropped = 4
