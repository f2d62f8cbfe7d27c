package vnicbridge

import (
	"sync"
	"time"

	"github.com/google/gopacket/layers"
)

// orphanTime is how long a server may send in a connection of no flow before it is told
// that nobody hears it (F5+). Until then the client may speak, which gives it its flow
// back.
const orphanTime = 20 * time.Second

// maxOrphans bounds the memory of orphans, some 2 MiB. Beyond it, servers are told at
// once.
const maxOrphans = 1 << 12

// orphans are the TCP connections in which segments send, and that belong to no flow.
type orphans struct {
	mu    sync.Mutex
	known boundedMap[flowKey, orphan]
}

type orphan struct {
	key   flowKey // of the server's packets
	in    *port
	since int64
	reset frame // ends it; nothing else comes to the server that could change its number
}

// orphaned remembers that a segment has sent a packet that belongs to no flow.
func (fw *forwarder) orphaned(a *arrival) {
	if !a.continues() {
		return
	}
	o, key := &fw.orphans, flowKey{a.tuple, a.in.index}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.known.get(key); known {
		return
	}
	if len(o.known.byKey) == maxOrphans {
		fw.answerRefusal(a)
		return
	}
	o.known.put(key, orphan{key, a.in, a.now, a.resetFrame()}, maxOrphans)
}

// resetFrame is the RST that answers a TCP segment.
func (a *arrival) resetFrame() frame {
	ip := a.answerHeader(layers.IPProtocolTCP)
	return buildFrame(a.frame.dstMAC(), a.frame.srcMAC(), layers.EthernetTypeIPv4, ip, a.reset(ip))
}

// endOrphans resets the orphans that have had their time, as many as may be refused.
func (fw *forwarder) endOrphans(now int64) {
	o := &fw.orphans
	o.mu.Lock()
	defer o.mu.Unlock()
	var out outbox
	o.known.popWhile(func(orphan orphan) bool {
		if now-orphan.since < int64(orphanTime) {
			return false
		}
		if f, _ := fw.flows.lookup(orphan.key); f != nil || orphan.in.closed.Load() {
			return true
		}
		if !fw.limits(orphan.in).refusals.AllowN(time.Unix(0, now), 1) {
			return false
		}
		out.put(orphan.in, orphan.reset)
		return true
	})
	out.flush()
}
