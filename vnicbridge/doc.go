// Package vnicbridge is the data plane of caddy-vnic: it turns a NIC without an
// address into the single outside face of several isolated network segments.
//
// Each [Segment] has a virtual NIC (VNIC), which is a TAP device with an address
// and a network of its own. A [Bridge] joins one NIC to segments: it answers ARP
// for its pseudo address, picks a segment for each new flow by policy, rewrites
// the packets of the flow in both directions, and sends everything out with the
// NIC's own MAC address. Other machines see a single ordinary host.
//
//	in on the NIC:   192.168.1.1  → 192.168.1.2    becomes on vnic-A   192.168.50.2 → 192.168.50.1
//	out of vnic-A:   192.168.50.1 → 192.168.50.2   becomes on the NIC  192.168.1.2  → 192.168.1.1
//
// A [Config] is plain data and can be checked anywhere ([Config.Validate]). A
// [Plane] puts it in force: [Plane.Apply] makes the difference between what runs
// and what is wanted, so that flows survive a change of configuration.
//
// The package knows nothing of Caddy. It follows "Implementation of server
// management system by using VNIC and bridge-connection" (Goto and Kodama, 2015),
// called "the paper" in the comments.
package vnicbridge
