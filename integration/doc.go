// Package integration holds the end-to-end tests: Caddy in a network of
// namespaces, with real clients and servers.
//
// All tests are in one package, because linking Caddy into a test binary takes
// longer than most tests run. A file's name begins with its subject:
//
//	addresses_  the pseudo address, aliases, routes, next hops
//	flows_      what the bridge does to packets, and which segment a flow gets
//	separation_ what must not get through, from outside or from a segment
//	load_       floods, faults, and reloads under traffic
//	sites_      listeners on a segment, fronts, path groups, drains
//	operate_    commands, the admin API, the dashboard, the pages on trouble
//	machine_    privileges, systemd, containers, old kernels, other programs
//	remote_     servers, and bridges, on other machines
//	lab_        `caddy vnic lab`
//	soak_       what takes minutes (build tag soak, `make soak`)
//	scene_      what the tests share: the network with Caddy, and hosts' programs
package integration
