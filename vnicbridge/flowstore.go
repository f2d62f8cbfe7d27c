package vnicbridge

import (
	"iter"
	"time"
)

// flowStore holds the living flows, bounded. Each is found by two keys; both are
// claimed together, so that no two flows ever share a reply tuple.
type flowStore interface {
	// lookup finds the flow of a key and the direction that the key is of.
	lookup(flowKey) (*flow, direction)
	// insert adds a flow under the first of the candidate reply tuples that is
	// free. Another flow that was inserted for the same original tuple meanwhile is
	// returned instead.
	insert(f *flow, candidates iter.Seq[tuple]) (*flow, dropReason)
	// adopt adds a flow of another store as it is. False: there is no room.
	adopt(*flow) bool
	// remove ends a flow whose ends may go on to remember it. Ending one twice is
	// harmless.
	remove(f *flow, now int64)
	// removeIf ends all flows that a condition holds for, and returns them.
	removeIf(condition func(*flow) bool) []*flow
	// each calls a function with every flow; it must not call the store. The store is
	// locked for eachPart of them at most: then pause is called without the lock, and
	// if it returns false, that is all.
	each(visit func(*flow), pause func() bool)
	// moved tells that a flow came into another phase.
	moved(f *flow, before, after flowClass)
	// sweep ends idle flows: as many are looked at as the time that has passed asks
	// for.
	sweep(now int64, passed time.Duration)
	// setLimit bounds the number of flows. Those beyond a lower bound end as others
	// begin.
	setLimit(flows int)
	len() int
}

// eachPart is how many flows are visited in some 50 µs.
const eachPart = 64

// sweepsPerIdleTime is how often a sweep goes round within an idle time: a flow
// ends at most an eighth of it late.
const sweepsPerIdleTime = 8

// sweepPace returns how many of a number of flows must be visited for a time that
// has passed, if each is to be visited often enough for its idle time.
func sweepPace(idleTime time.Duration, size int, passed time.Duration) int {
	return min(size, int(int64(size)*int64(passed)/int64(idleTime/sweepsPerIdleTime))+1)
}
