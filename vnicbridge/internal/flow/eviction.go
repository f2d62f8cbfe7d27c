package flow

import (
	"cmp"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// evictionOrder lists the classes of flows that a full table evicts, the least valuable
// first. Established flows are evicted only beyond EstablishedShare (L1).
//
// Idle flows are evicted first. If there are too few of them, as in a flood, the largest
// class is evicted, because that is the flood's: flows of other classes do not suffer (L2).
var evictionOrder = [...]Class{ClassHalfOpen, ClassClosing, ClassICMP, ClassUDP}

// SpareTime is the age of its last packet from which on a flow counts as idle. A client
// whose SYN is lost sends it again twice within this time (RFC 6298).
const SpareTime = 5 * time.Second

// EstablishedShare is the share of the table, in eighths, that established flows can hold.
// Beyond it, idle established flows are evicted too (L1), so that connections that somebody
// opens and abandons do not keep others out. Within the share, no flood evicts them.
const EstablishedShare = 7

// sampleSize is how many flows are compared, at most, to choose which to evict.
const sampleSize = 4096

// excess returns how many established flows are beyond their share.
func excess(established, limit int) int { return max(0, established-limit*EstablishedShare/8) }

// byCrowding sorts flows in the order in which they are evicted. A flow comes earlier, the
// more flows of the same client were used after it, and among equals the idlest comes
// first. So a client with few connections keeps them while another has many. of says how many
// flows each client has.
func byCrowding[F any](flows []F, client func(F) packet.Addr, lastSeen func(F) uint32) (of map[packet.Addr]int) {
	slices.SortFunc(flows, func(a, b F) int { return cmp.Compare(int32(lastSeen(b)-lastSeen(a)), 0) })
	after := make(map[packet.Addr]int)
	type ranked struct {
		flow F
		rank int
	}
	all := make([]ranked, len(flows))
	for i, f := range flows {
		all[i] = ranked{f, after[client(f)]}
		after[client(f)]++
	}
	slices.Reverse(all) // idlest first
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.rank, a.rank) })
	for i, r := range all {
		flows[i] = r.flow
	}
	return after
}
