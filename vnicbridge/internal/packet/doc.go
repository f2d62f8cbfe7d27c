// Package packet reads, checks and rewrites frames: addresses, tuples, incremental
// checksums (RFC 1624), fragments and ICMP quotes. It builds the packets that the bridge
// itself sends, and names the reasons for drops. It keeps no state.
package packet
