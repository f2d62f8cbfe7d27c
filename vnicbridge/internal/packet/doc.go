// Package packet reads, checks and rewrites frames: addresses, tuples, checksums by
// increment (RFC 1624), fragments, ICMP quotes, and the answers that the bridge itself
// builds. It also names the reasons for which a packet is dropped. It keeps no state.
package packet
