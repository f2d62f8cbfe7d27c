// Package flow remembers flows: their keys, TCP states and idle times, the flow table,
// eviction, the quarantine of reply keys, and the handshakes whose flows were evicted.
// Both data paths use the same records.
package flow
