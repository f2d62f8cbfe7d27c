// Package netlab builds networks of Linux namespaces in one machine, and runs
// clients and servers in them.
//
// A [Network] has [Host]s, which [Network.Link] joins. A host routes
// ([Host.DefaultRoute]), translates addresses ([Host.Masquerade]) or is a switch
// ([Host.Bridge]). It pings ([Host.Ping]), captures frames ([Host.Capture]), reads
// the web ([Host.WebClient]), runs programs ([Host.Start]) and Caddy
// ([Host.StartCaddy]).
//
// The package needs Linux and no program: no ip, ping, tcpdump or curl. It knows
// no particular network, and imports no other package of this module.
package netlab
