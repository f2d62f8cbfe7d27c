// Package integration is the lab: networks of namespaces with real routers,
// clients and servers in one machine, and the paper's experiments played in them.
//
// [RunLab] is what `caddy vnic lab` runs. The parts that it is made of are also
// what the end-to-end tests are written with: a [Network] of [Host]s joined by
// [Network.Link], [NewPaperNetwork] for the paper's Fig-1, [Host.Ping],
// [Host.Capture] and [Host.StartCaddy].
//
// The lab needs Linux, and none of its tools: no ip, ping, tcpdump or curl.
package integration
