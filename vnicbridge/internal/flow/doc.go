// Package flow holds the flow table and its rules: keys, TCP states, idle times, eviction,
// the quarantine of reply keys, and the handshakes of evicted flows. Both data paths use
// the same records.
package flow
