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
	tuples boundedMap[flowKey, quarantined]
}

type quarantined struct {
	client addr
	until  int64
}

// rememberedBy tells whether a server may remember a flow: it has been answered, and
// not long ago.
func rememberedBy(proto Protocol, s *flowState, now int64) bool {
	return proto == TCP && s.flags.Load()&flowAccepted != 0 && s.idle(now) < timeWait
}

// add puts a flow's reply tuple in quarantine, if a server may remember it.
func (q *quarantine) add(f *flow, now int64) {
	if !rememberedBy(f.orig.proto, f.flowState, now) {
		return
	}
	_, key := f.keys()
	q.tuples.put(key, quarantined{f.orig.src, now + int64(timeWait-f.idle(now))}, maxQuarantined)
}

// holds tells whether a tuple is kept from a client.
func (q *quarantine) holds(key flowKey, client addr, now int64) bool {
	t, ok := q.tuples.get(key)
	return ok && t.client != client && now < t.until
}

// sweep lets go of what no server remembers any more.
func (q *quarantine) sweep(now int64) {
	q.tuples.popWhile(func(t quarantined) bool { return t.until <= now })
}
