package vnicbridge

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// Flows lists the flows that match a filter. For a million flows it takes up to a second of
// one core. Packets do not wait for it, because it reads the table in small parts. Flows that
// begin or end meanwhile may be in the list or not. The error says what of the filter is
// impossible, such as a segment that the configuration in force does not have.
func (p *Plane) Flows(filter flowlist.Filter) (flowlist.List, error) {
	return p.flowView().Flows(filter)
}

// Clients lists the clients that have the most flows among those that match a filter. The
// filter's limit counts clients. The figures of a listed client are exact. Memory is limited
// to [flowlist.MaxClients] entries. A client with more than 1/MaxClients of the matching
// flows is always listed, if the filter's limit allows it.
//
// Clients takes twice the time of [Plane.Flows] and returns the same errors.
func (p *Plane) Clients(filter flowlist.Filter) (flowlist.ClientList, error) {
	return p.flowView().Clients(filter)
}

// flowView returns a view of the living flows, with the names of the configuration in force.
func (p *Plane) flowView() *flowlist.View {
	p.mu.Lock()
	defer p.mu.Unlock()
	labels := p.path.Labels()
	v := &flowlist.View{
		Each: p.path.EachFlow, Now: p.now,
		Segments: config.SortedKeys(p.segments), Bridges: config.SortedKeys(p.bridges),
		BridgeOf: make(map[*iface.Iface]string), Names: labels.All(),
		NameOf: func(f *flow.Flow) string { return labels.Label(f.Rule()) },
	}
	for _, d := range p.living() {
		for name, b := range d.bridges {
			for _, own := range b.iface.Each() {
				v.BridgeOf[own] = name
			}
		}
	}
	return v
}
