package flow

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// TimeWait is how long a server may keep the state of a connection that is over
// (TCP_TIMEWAIT_LEN in include/net/tcp.h). Another client with the same tuple
// would meet it, and stall on the first one's timestamps.
const TimeWait = 60 * time.Second

// maxQuarantined bounds the memory of a quarantine. Beyond it the oldest are let
// go early.
const maxQuarantined = 1 << 16

// quarantine keeps reply tuples of connections that ended from other clients for
// as long as a server may remember them (A5).
type quarantine struct {
	tuples BoundedMap[Key, quarantined]
}

type quarantined struct {
	client packet.Addr
	until  int64
}

// RememberedBy tells whether a server may remember a flow: it has been answered, and
// not long ago.
func RememberedBy(proto config.Protocol, s *State, now int64) bool {
	return proto == config.TCP && s.Flags.Load()&Accepted != 0 && s.Idle(now) < TimeWait
}

// add puts a flow's reply tuple in quarantine, if a server may remember it.
func (q *quarantine) add(f *Flow, now int64) {
	if !RememberedBy(f.Orig.Proto, f.State, now) {
		return
	}
	_, key := f.Keys()
	q.tuples.Put(key, quarantined{f.Orig.Src, now + int64(TimeWait-f.Idle(now))}, maxQuarantined)
}

// holds tells whether a tuple is kept from a client.
func (q *quarantine) holds(key Key, client packet.Addr, now int64) bool {
	t, ok := q.tuples.Get(key)
	return ok && t.client != client && now < t.until
}

// sweep lets go of what no server remembers any more.
func (q *quarantine) sweep(now int64) {
	q.tuples.PopWhile(func(t quarantined) bool { return t.until <= now })
}
