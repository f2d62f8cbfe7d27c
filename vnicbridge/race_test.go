//go:build race

package vnicbridge

// detectsRaces tells whether this is a build with the race detector, which makes a step of two planes
// ten times as slow. It needs fewer of them.
const detectsRaces = true
