package userspace

import (
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// OrphanTime is how long a server may send in a connection without a flow before it gets a
// RST (F5+). If the client sends within this time, the flow is opened again.
const OrphanTime = 20 * time.Second

// MaxOrphans bounds the number of orphans, which take about 2 MiB. Beyond it, servers get a
// RST at once.
const MaxOrphans = 1 << 12

// orphans are TCP connections without a flow in which servers on segments send.
type orphans struct {
	Mu    lockorder.Mutex[lockorder.Orphans]
	Known flow.BoundedMap[flow.Key, Orphan] // by the key of the server's packets
}

// Orphan is one such connection.
type Orphan struct {
	key   flow.Key // of the server's packets
	in    *iface.Iface
	since int64        // when the server's first packet came, in ns
	reset packet.Frame // its number stays valid, because nothing else reaches the server
}

// orphaned remembers that a server has sent a TCP segment that belongs to no flow.
func (fw *Forwarder) orphaned(a *Arrival) {
	if !a.Continues() || !a.answerable() {
		return
	}
	o, key := &fw.Orphans, a.key()
	o.Mu.Lock()
	defer o.Mu.Unlock()
	if _, known := o.Known.Get(key); known {
		return
	}
	if len(o.Known.ByKey) == MaxOrphans {
		fw.answerRefusal(a)
		return
	}
	o.Known.Put(key, Orphan{key, a.In, a.Now, a.resetFrame()}, MaxOrphans)
}

// resetFrame returns the RST that answers a TCP segment.
func (a *Arrival) resetFrame() packet.Frame {
	return a.answerSegment(a.Reset())
}

// endOrphans sends RSTs to the servers of orphans that are OrphanTime old, at the rate of
// refusals.
func (fw *Forwarder) endOrphans(now int64) {
	o := &fw.Orphans
	o.Mu.Lock()
	defer o.Mu.Unlock()
	var out iface.Outbox
	o.Known.PopWhile(func(orphan Orphan) bool {
		if now-orphan.since < int64(OrphanTime) {
			return false
		}
		if f, _ := fw.Flows.Lookup(orphan.key); f != nil || orphan.in.Closed.Load() || orphan.in.StandsBy() {
			return true
		}
		if !fw.limits(orphan.in).refusals.AllowN(time.Unix(0, now), 1) {
			return false
		}
		out.Put(orphan.in, orphan.reset)
		return true
	})
	out.Flush()
}
