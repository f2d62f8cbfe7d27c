// Package host makes and watches what the data plane needs on this Linux: packet
// sockets, TAP devices, veth pairs, routes, rules, sysctls, the guard in nftables, and
// network namespaces. It undoes all of it, and knows neither flows nor data paths.
package host
