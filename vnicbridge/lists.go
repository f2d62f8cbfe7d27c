package vnicbridge

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// Flows lists flows of the table. For a million flows it takes up to a second of one
// core. Packets do not wait for it, because it looks at the table in small parts. Flows
// that begin or end meanwhile may be in the list or not. The error is for a filter that
// asks for what cannot be, such as a segment that the configuration in force does not
// have.
func (p *Plane) Flows(filter flowlist.Filter) (flowlist.List, error) {
	return p.flowView().Flows(filter)
}

// Clients lists the clients with the most flows that match a filter, whose limit is
// of clients here. What it says of a client is exact. Memory is limited to MaxClients
// entries. A client with more than 1/MaxClients of all flows is always considered.
//
// It takes twice the time of [Plane.Flows], and errors are the same.
func (p *Plane) Clients(filter flowlist.Filter) (flowlist.ClientList, error) {
	return p.flowView().Clients(filter)
}

// View shows the living flows, with the names that the configuration in force gives.
func (p *Plane) flowView() *flowlist.View {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := &flowlist.View{
		Each: p.path.EachFlow, Now: p.now,
		Segments: config.SortedKeys(p.segments), Bridges: config.SortedKeys(p.bridges),
		BridgeOf: make(map[*iface.Iface]string),
	}
	for _, d := range p.living() {
		for name, b := range d.bridges {
			v.BridgeOf[b.iface] = name
		}
	}
	return v
}
