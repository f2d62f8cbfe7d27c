package flow

import (
	"cmp"
	"slices"
	"time"
)

// evictionOrder is the classes of flows that may have to go when the table is
// full, those first that are worth the least. Established flows are not among them
// (L1), but see EstablishedShare.
//
// An idle one goes first or, in a flood, when all are fresh, one of the class that
// there are most of: what is of another class than the flood does not suffer from
// it (L2).
var evictionOrder = [...]Class{ClassHalfOpen, ClassClosing, ClassICMP, ClassUDP}

// SpareTime is how long a flow is spared after its last packet, for a flood that
// fills the table with flows of another class: a lost SYN is repeated within it,
// twice (RFC 6298).
const SpareTime = 5 * time.Second

// EstablishedShare is how much of the table established flows may take for good, in
// eighths. Beyond it, those that are idle make room, too (L1): connections that
// somebody opens and leaves must not keep others out. A flood of SYNs gets no further
// than to that share.
const EstablishedShare = 7

// crowdSample is how many established flows are compared when some have to go.
const crowdSample = 4096

// excess is how many established flows there are beyond their share.
func excess(established, limit int) int { return max(0, established-limit*EstablishedShare/8) }

// byCrowding sorts flows so that those are first whose client has the most that were
// used after them, and of the rest the idlest: so a client with few connections
// keeps them beside one with many.
func byCrowding[F any](flows []F, client func(F) uint32, lastSeen func(F) uint32) {
	slices.SortFunc(flows, func(a, b F) int { return cmp.Compare(int32(lastSeen(b)-lastSeen(a)), 0) })
	after := make(map[uint32]int)
	type ranked struct {
		flow F
		rank int
	}
	all := make([]ranked, len(flows))
	for i, f := range flows {
		all[i] = ranked{f, after[client(f)]}
		after[client(f)]++
	}
	slices.Reverse(all) // the idlest first
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.rank, a.rank) })
	for i, r := range all {
		flows[i] = r.flow
	}
}
