package vnicbridge

import "time"

// timeWait is how long a server may keep the state of a connection that is over
// (TCP_TIMEWAIT_LEN in include/net/tcp.h). Another client with the same tuple
// would meet it, and stall on the first one's timestamps.
const timeWait = 60 * time.Second

// maxQuarantined bounds the memory of a quarantine. Beyond it the oldest are let
// go early.
const maxQuarantined = 1 << 16

// quarantine keeps reply tuples of connections that ended from other clients for
// as long as a server may remember them (A5).
type quarantine struct {
	tuples map[flowKey]quarantined
	queue  []flowKey // in the order of their end, the first to be let go first
}

type quarantined struct {
	client addr
	until  int64
}

// add puts a flow's reply tuple in quarantine, if a server may remember it: the
// flow has been answered, and not long ago.
func (q *quarantine) add(f *flow, now int64) bool {
	until := now + int64(timeWait-f.idle(now))
	if f.orig.proto != TCP || f.flags.Load()&flowAccepted == 0 || until <= now {
		return false
	}
	if q.tuples == nil {
		q.tuples = make(map[flowKey]quarantined)
	}
	if len(q.queue) >= maxQuarantined {
		q.pop()
	}
	_, key := f.keys()
	q.tuples[key] = quarantined{f.orig.src, until}
	q.queue = append(q.queue, key)
	return true
}

// holds tells whether a tuple is kept from a client.
func (q *quarantine) holds(key flowKey, client addr, now int64) bool {
	t, ok := q.tuples[key]
	return ok && t.client != client && now < t.until
}

// sweep lets go of what no server remembers any more, and returns it.
func (q *quarantine) sweep(now int64) (free []flowKey) {
	for len(q.queue) > 0 && q.tuples[q.queue[0]].until <= now {
		free = append(free, q.pop())
	}
	return free
}

// pop lets go of the oldest.
func (q *quarantine) pop() flowKey {
	key := q.queue[0]
	delete(q.tuples, key)
	q.queue = q.queue[1:]
	return key
}

func (q *quarantine) len() int { return len(q.queue) }
