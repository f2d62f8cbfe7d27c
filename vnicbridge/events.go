package vnicbridge

import (
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Event tells of something that an operator may want to act on. Each trouble has an event of
// its end, except a rival: nobody can see that another host leaves an address alone.
type Event struct {
	Name EventName
	Data map[string]any
}

// EventName names an event.
type EventName string

// The events, and their data.
const (
	SegmentDown   EventName = "segment_down"    // it is unhealthy: segment, reason
	SegmentUp     EventName = "segment_up"      // segment
	NICDown       EventName = "nic_down"        // it is down or has no carrier: bridge, nic
	NICUp         EventName = "nic_up"          // bridge, nic
	GatewayLost   EventName = "gateway_lost"    // it does not answer: bridge, gateway
	GatewayBack   EventName = "gateway_back"    // bridge, gateway
	TableNearFull EventName = "table_near_full" // flows, limit
	TableHasRoom  EventName = "table_has_room"  // flows, limit
	Rival         EventName = "rival"           // another host uses a pseudo address: bridge, address, mac

	// Of bridges that fail over, and the first two of those that are announced.
	BridgeActive   EventName = "bridge_active"   // it has its addresses now, or routers learn of them: bridge
	BridgeStandby  EventName = "bridge_standby"  // another machine has them, or nobody: bridge, reason
	BridgeConflict EventName = "bridge_conflict" // another machine uses one of them, too: bridge, address, mac
)

// EventNames returns the names of all events.
func EventNames() []EventName {
	return []EventName{
		SegmentDown, SegmentUp, NICDown, NICUp, GatewayLost, GatewayBack, TableNearFull, TableHasRoom, Rival,
		BridgeActive, BridgeStandby, BridgeConflict,
	}
}

// The flow table is near full above nearFull, and has room again below hasRoom, in percent. The
// gap keeps events from repeating.
const (
	nearFull = 90
	hasRoom  = 80
)

// watch tells which troubles began or ended: of gateways, and of the flow table.
func (p *Plane) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg == nil {
		return
	}
	for _, name := range config.SortedKeys(p.bridges) {
		p.watchGateways(name, p.bridges[name])
	}
	p.watchTable(p.path.FlowCount(), p.cfg.MaxFlowsOrDefault())
}

// watchGateways looks at the gateways of a bridge. While its NIC is down, they cannot answer, and
// when it is up again they have some time to.
func (p *Plane) watchGateways(name string, b *bridge) {
	if !b.up.Load() || p.now()-b.upSince < int64(inspectInterval) {
		return
	}
	for f, link := range b.eachLink() {
		gateway := p.cfg.Bridges[name].Gateway(f)
		silent := link.Table().GatewaySilent()
		if silent == b.silent[f] {
			continue
		}
		b.silent[f] = silent
		event, log := GatewayBack, p.log.With("bridge", name, "gateway", gateway)
		if silent {
			event = GatewayLost
			log.Warn("the gateway does not answer any more: nothing beyond it can be reached")
		} else {
			log.Info("the gateway answers again")
		}
		p.happened(Event{event, map[string]any{"bridge": name, "gateway": gateway.String()}})
	}
}

func (p *Plane) watchTable(flows, limit int) {
	data := map[string]any{"flows": flows, "limit": limit}
	switch percent := flows * 100 / max(1, limit); {
	case !p.nearlyFull && percent > nearFull:
		p.nearlyFull = true
		p.log.Warn("the flow table is nearly full", "flows", flows, "limit", limit)
		p.happened(Event{TableNearFull, data})
	case p.nearlyFull && percent < hasRoom:
		p.nearlyFull = false
		p.log.Info("the flow table has room again", "flows", flows, "limit", limit)
		p.happened(Event{TableHasRoom, data})
	}
}

func (p *Plane) tellNIC(bridge, nic string, up bool) {
	event := NICDown
	if up {
		event = NICUp
	}
	p.happened(Event{event, map[string]any{"bridge": bridge, "nic": nic}})
}

// rival is called, with a claim locked, when another host uses an address of a bridge. If the
// bridge fails over, the other is the machine that should stand by.
func (p *Plane) rival(b *bridge, address netip.Addr, mac config.MAC) {
	b.conflicts.Add(1)
	event := Rival
	if b.failsOver.Load() {
		event = BridgeConflict
	}
	p.happened(Event{event, map[string]any{"bridge": b.spec.bridge, "address": address.String(), "mac": mac.String()}})
}
