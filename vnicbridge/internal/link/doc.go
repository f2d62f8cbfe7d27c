// Package link connects a NIC to its link: it claims the bridge's addresses (RFC 5227,
// RFC 4862), sends and answers ARP and NDP, reports multicast groups by MLD, and resolves next
// hops within fixed bounds.
package link
