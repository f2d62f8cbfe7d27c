package rules

import (
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// OpenPorts are the ports that listeners opened on segments, counted: the same
// one may be opened by an old and a new configuration at once. A port that was
// closed stays, with the count 0: it was this process's.
type OpenPorts struct {
	Changed func() // called, unlocked, when a port was opened or closed

	mu    sync.RWMutex
	count map[string]map[config.PortRange]int
}

func (o *OpenPorts) Open(segment string, r config.PortRange) (release func()) {
	defer o.Changed()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == nil {
		o.count = make(map[string]map[config.PortRange]int)
	}
	if o.count[segment] == nil {
		o.count[segment] = make(map[config.PortRange]int)
	}
	o.count[segment][r]++
	return sync.OnceFunc(func() { o.close(segment, r) })
}

func (o *OpenPorts) close(segment string, r config.PortRange) {
	defer o.Changed()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count[segment][r]--
}

// Contains tells whether a flow's destination port is open on a segment.
func (o *OpenPorts) Contains(segment string, flow packet.Tuple) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for r, n := range o.count[segment] {
		if n > 0 && r.Contains(flow.Proto, flow.Dport) {
			return true
		}
	}
	return false
}

// WereOurs tells whether a flow's destination port is, or was, a listener's of this
// process.
func (o *OpenPorts) WereOurs(segment string, flow packet.Tuple) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for r := range o.count[segment] {
		if r.Contains(flow.Proto, flow.Dport) {
			return true
		}
	}
	return false
}

func (o *OpenPorts) List(segment string) []config.PortRange {
	o.mu.RLock()
	defer o.mu.RUnlock()
	ports := make([]config.PortRange, 0, len(o.count[segment]))
	for r, n := range o.count[segment] {
		if n > 0 {
			ports = append(ports, r)
		}
	}
	return ports
}
