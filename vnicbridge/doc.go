// Package vnicbridge is the data plane of caddy-vnic: it turns a NIC without an
// address into the single outside face of several isolated network segments.
//
// Each segment has a virtual NIC (VNIC), which is a TAP device with an address and a
// network of its own. A bridge joins one NIC to segments. It answers ARP for its
// pseudo address, picks a segment for each new flow by policy, rewrites the packets of
// the flow in both directions, and sends everything out with the NIC's own MAC
// address. Other machines see a single ordinary host.
//
//	in on the NIC:   192.168.1.1  → 192.168.1.2    becomes on vnic-A   192.168.50.2 → 192.168.50.1
//	out of vnic-A:   192.168.50.1 → 192.168.50.2   becomes on the NIC  192.168.1.2  → 192.168.1.1
//
// A configuration is plain data, and its Validate method checks it on any machine. A
// [Plane] puts it in force.
//
// # A packet
//
// On the userspace path the forwarder reads frames from a NIC's packet socket or a
// VNIC's TAP device. It parses a frame, looks the flow up by iface and tuple or opens
// one by the compiled rules, rewrites the addresses in place, and sends the frame by
// the flow's other iface. On the kernel path eBPF programs do the same with the same
// rules and the same flow records. The programs leave what only userspace can handle
// to the forwarder (the slow path).
//
// # A reload
//
// [Plane.Apply] applies the difference between what runs and what is wanted, so that
// established flows survive. It first does everything that can fail: it makes the
// missing devices, sets the guard, claims new pseudo addresses and compiles the rules.
// If a step fails, Apply undoes the steps before it, and what was in force stays in
// force. What follows cannot fail: Apply publishes the rules by one pointer, and closes
// the devices that no living configuration has.
//
// # Locks
//
// A goroutine takes locks in this order only, and never two of one place. In a build with
// the race detector, package lockorder panics if one does otherwise.
//
//  1. the plane's: held for a whole Apply, one operation, or one repair
//  2. that of the bans: held while they change, and while flows move to a new kernel path
//  3. that of the bridges' roles: held while an elector gives a bridge its addresses, or takes them
//  4. the forwarder's moving: shared while it carries a batch of frames or visits a
//     part of the table, exclusive while all flows move to the other data path
//  5. that of the greetings: held while one begins, goes on or ends
//  6. a link's publishing: held while the data path is told of a next hop
//  7. the kernel path's: held while its maps or attachments change
//  8. the flow table's: held for one change, or for a part of a visit
//  9. those of next hops, the claim, fragments, handshakes, orphans, open ports, the pacer, health,
//     a NIC's packet filter and a program's place among others, each held for one lookup
//     or change of its own data
//  10. that of the log's rate limit
//
// The turn of a TAP is not among them: who carries what was read from the TAP has it, and nobody
// who has a lock waits for it.
//
// Captures share atomic counts and have no lock.
//
// A packet never takes the plane's lock. A callback that may take a lock of an earlier
// place is called without locks, or sends to a channel that the plane's goroutine reads.
// The programs and Go share no lock: the order of writes to a record replaces it.
//
// The package knows nothing of Caddy. It follows "Implementation of server
// management system by using VNIC and bridge-connection" (Goto and Kodama, 2015),
// which comments call "the paper".
package vnicbridge
