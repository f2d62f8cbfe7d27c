// Package link is one NIC's link. It claims the pseudo address (RFC 5227), answers and
// sends ARP, and resolves next hops within fixed bounds.
package link
