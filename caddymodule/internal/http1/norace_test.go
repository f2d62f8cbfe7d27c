//go:build !race

package http1

// dropped is what pools lose, which is something under the race detector only.
const dropped = 0
