package userspace

import (
	"sync"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// OrphanTime is how long a server may send in a connection of no flow before it is told
// that nobody hears it (F5+). Until then the client may speak, which gives it its flow
// back.
const OrphanTime = 20 * time.Second

// MaxOrphans bounds the memory of orphans, some 2 MiB. Beyond it, servers are told at
// once.
const MaxOrphans = 1 << 12

// orphans are the TCP connections in which segments send, and that belong to no flow.
type orphans struct {
	Mu    sync.Mutex
	Known flow.BoundedMap[flow.Key, Orphan]
}

type Orphan struct {
	key   flow.Key // of the server's packets
	in    *iface.Iface
	since int64
	reset packet.Frame // ends it; nothing else comes to the server that could change its number
}

// orphaned remembers that a segment has sent a packet that belongs to no flow.
func (fw *Forwarder) orphaned(a *Arrival) {
	if !a.Continues() {
		return
	}
	o, key := &fw.Orphans, flow.Key{Tuple: a.Tuple, Iface: a.In.Index}
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

// resetFrame is the RST that answers a TCP segment.
func (a *Arrival) resetFrame() packet.Frame {
	ip := a.answerHeader(layers.IPProtocolTCP)
	return packet.BuildFrame(a.Frame.DstMAC(), a.Frame.SrcMAC(), layers.EthernetTypeIPv4, ip, a.Reset(ip))
}

// endOrphans resets the orphans that have had their time, as many as may be refused.
func (fw *Forwarder) endOrphans(now int64) {
	o := &fw.Orphans
	o.Mu.Lock()
	defer o.Mu.Unlock()
	var out iface.Outbox
	o.Known.PopWhile(func(orphan Orphan) bool {
		if now-orphan.since < int64(OrphanTime) {
			return false
		}
		if f, _ := fw.Flows.Lookup(orphan.key); f != nil || orphan.in.Closed.Load() {
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
