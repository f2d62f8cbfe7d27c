// Package link connects a NIC to its link: it claims the pseudo address (RFC 5227), sends
// and answers ARP, and resolves next hops within fixed bounds.
package link
