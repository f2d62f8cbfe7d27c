package vnicbridge

import "sync"

// openPorts are the ports that listeners opened on segments, counted: the same
// one may be opened by an old and a new configuration at once. A port that was
// closed stays, with the count 0: it was this process's.
type openPorts struct {
	changed func() // called, unlocked, when a port was opened or closed

	mu    sync.RWMutex
	count map[string]map[PortRange]int
}

func (o *openPorts) open(segment string, r PortRange) (release func()) {
	defer o.changed()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count == nil {
		o.count = make(map[string]map[PortRange]int)
	}
	if o.count[segment] == nil {
		o.count[segment] = make(map[PortRange]int)
	}
	o.count[segment][r]++
	return sync.OnceFunc(func() { o.close(segment, r) })
}

func (o *openPorts) close(segment string, r PortRange) {
	defer o.changed()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count[segment][r]--
}

// contains tells whether a flow's destination port is open on a segment.
func (o *openPorts) contains(segment string, flow tuple) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for r, n := range o.count[segment] {
		if n > 0 && r.Contains(flow.proto, flow.dport) {
			return true
		}
	}
	return false
}

// wereOurs tells whether a flow's destination port is, or was, a listener's of this
// process.
func (o *openPorts) wereOurs(segment string, flow tuple) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for r := range o.count[segment] {
		if r.Contains(flow.proto, flow.dport) {
			return true
		}
	}
	return false
}

func (o *openPorts) list(segment string) []PortRange {
	o.mu.RLock()
	defer o.mu.RUnlock()
	ports := make([]PortRange, 0, len(o.count[segment]))
	for r, n := range o.count[segment] {
		if n > 0 {
			ports = append(ports, r)
		}
	}
	return ports
}
