package flow

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// TimeWait is how long a server can remember a connection that is over (TCP_TIMEWAIT_LEN in
// include/net/tcp.h). If another client got the same tuple within this time, its connection
// could stall because of the first client's timestamps.
const TimeWait = 60 * time.Second

// maxQuarantined is how many keys a quarantine holds. Beyond it the oldest are released
// early.
const maxQuarantined = 1 << 16

// quarantine keeps the reply keys of ended connections from other clients, for as long as a
// server may remember the connection (A5).
type quarantine struct {
	tuples BoundedMap[Key, quarantined]
}

type quarantined struct {
	client packet.Addr
	until  int64
}

// RememberedBy tells whether a server may remember a flow: it is TCP, the server has
// accepted it, and the last packet is less than TimeWait ago.
func RememberedBy(proto config.Protocol, s *State, now int64) bool {
	return proto == config.TCP && s.Flags.Load()&Accepted != 0 && s.Idle(now) < TimeWait
}

// add puts a flow's reply key into quarantine, if a server may remember the flow.
func (q *quarantine) add(f *Flow, now int64) {
	if !RememberedBy(f.Orig.Proto, f.State, now) {
		return
	}
	_, key := f.Keys()
	q.tuples.Put(key, quarantined{f.Orig.Src, now + int64(TimeWait-f.Idle(now))}, maxQuarantined)
}

// holds tells whether a client must not use a key. The key's last client may.
func (q *quarantine) holds(key Key, client packet.Addr, now int64) bool {
	t, ok := q.tuples.Get(key)
	return ok && t.client != client && now < t.until
}

// sweep releases the keys that no server remembers any more.
func (q *quarantine) sweep(now int64) {
	q.tuples.PopWhile(func(t quarantined) bool { return t.until <= now })
}
