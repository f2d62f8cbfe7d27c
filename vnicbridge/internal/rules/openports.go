package rules

import (
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/lockorder"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// OpenPorts are the ports that listeners of this process open on segments. They are counted,
// because an old and a new configuration may open the same port at once. A closed port stays
// with the count 0: see [OpenPorts.WereOurs].
type OpenPorts struct {
	Changed func() // called without locks after a port was opened or closed

	mu    lockorder.RWMutex[lockorder.OpenPorts]
	count map[string]map[config.PortRange]int // by segment
}

// Open opens ports on a segment until release is called. Calling release again does nothing.
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

// WereOurs tells whether a listener of this process has, or once had, a flow's destination
// port open on a segment.
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

// List returns the ports that are open on a segment, in no order.
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
