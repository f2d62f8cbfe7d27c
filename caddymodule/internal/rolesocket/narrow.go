package rolesocket

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// What is shown is copied field by field: a field that the instance gets one day is not shown before
// somebody has decided that it may be.

// narrow returns what of a status concerns a segment.
func narrow(whole api.Status, segment string) api.Status {
	own := whole.Segments[segment]
	narrowed := api.Status{Version: whole.Version, Role: segment}
	narrowed.Datapath, narrowed.Flows, narrowed.MaxFlows = whole.Datapath, own.Flows, whole.MaxFlows
	narrowed.Segments = map[string]vnicbridge.SegmentStatus{segment: segmentOf(own)}
	narrowed.Bridges = make(map[string]vnicbridge.BridgeStatus)
	for name, bridge := range whole.Bridges {
		if leadsTo(bridge, segment) {
			narrowed.Bridges[name] = narrowBridge(bridge, segment)
		}
	}
	return narrowed
}

func segmentOf(s vnicbridge.SegmentStatus) vnicbridge.SegmentStatus {
	return vnicbridge.SegmentStatus{
		State: s.State, Health: s.Health, Weight: s.Weight, ConfiguredWeight: s.ConfiguredWeight,
		Interface: s.Interface, Addresses: s.Addresses, MAC: s.MAC, Netns: s.Netns, Device: s.Device, Servers: s.Servers,
		Aliases: s.Aliases, Ports: s.Ports, Limits: s.Limits, Refused: s.Refused, Egress: s.Egress, ClientIP: s.ClientIP,
		Counters: s.Counters,
	}
}

// leadsTo tells whether a bridge can give flows to a segment.
func leadsTo(b vnicbridge.BridgeStatus, segment string) bool {
	return b.Policy != nil && slices.Contains(b.Policy.Segments, segment) || len(rulesFor(b.Steer, segment)) > 0
}

// narrowBridge returns what of a bridge concerns a segment: not what others get by it.
func narrowBridge(b vnicbridge.BridgeStatus, segment string) vnicbridge.BridgeStatus {
	narrowed := vnicbridge.BridgeStatus{
		NIC: b.NIC, Up: b.Up, MAC: b.MAC, Addresses: b.Addresses, Gateways: b.Gateways, OnNoSegment: b.OnNoSegment,
		Steer: rulesFor(b.Steer, segment), Policy: only(b.Policy, segment), Candidates: make(map[config.Family][]string),
		Counters: vnicbridge.Counters{Drops: map[string]uint64{}},
	}
	if b.SwitchedTo == segment {
		narrowed.SwitchedTo = segment
	}
	for family, candidates := range b.Candidates {
		narrowed.Candidates[family] = slices.DeleteFunc(slices.Clone(candidates), func(name string) bool { return name != segment })
	}
	for _, rule := range narrowed.Steer {
		if n, ok := b.FlowsByName[firstName(rule)]; ok && rule.Segment == segment {
			if narrowed.FlowsByName == nil {
				narrowed.FlowsByName = make(map[string]uint64)
			}
			narrowed.FlowsByName[firstName(rule)] = n
		}
	}
	return narrowed
}

func firstName(r config.Rule) string {
	if len(r.Names) == 0 {
		return ""
	}
	return r.Names[0]
}

// only returns a policy as one that chooses nothing but a segment; nil if it does not choose that.
func only(p *config.Policy, segment string) *config.Policy {
	if p == nil || !slices.Contains(p.Segments, segment) {
		return nil
	}
	return &config.Policy{Policy: p.Policy, Segments: []string{segment}}
}

// rulesFor returns the steer rules that can give flows to a segment.
func rulesFor(all []config.Rule, segment string) (own []config.Rule) {
	for _, rule := range all {
		if rule.LBPolicy = only(rule.LBPolicy, segment); rule.Segment == segment || rule.LBPolicy != nil {
			own = append(own, rule)
		}
	}
	return own
}

// narrowFlow returns a flow as its segment's VNIC shows it. Of a flow between segments, the other
// one's name and addresses are left out.
func narrowFlow(f flowlist.Flow, segment string) flowlist.Flow {
	if f.Direction != flowlist.Reach {
		return f
	}
	if f.Segment == segment {
		f.Client, f.Destination = f.Source, f.Server
		f.Peer = another
		return f
	}
	f.Source, f.Server = f.Client, f.Destination
	f.Peer, f.Segment = segment, another
	return f
}

// another stands for the name of another segment. No segment has this name.
const another = "another segment"

// narrowClients returns the clients of a segment without those that are other segments.
func narrowClients(all []flowlist.Client, whole api.Status, segment string) []flowlist.Client {
	narrowed := make([]flowlist.Client, 0, len(all))
	for _, client := range all {
		if inside(client.Address, whole, segment) {
			continue
		}
		client.Segments = []string{segment}
		narrowed = append(narrowed, client)
	}
	return narrowed
}

// inside tells whether a client is in the network of another segment.
func inside(client flowlist.Site, whole api.Status, segment string) bool {
	for name, other := range whole.Segments {
		if name != segment && slices.ContainsFunc(other.Addresses, func(n netip.Prefix) bool { return n.Masked().Overlaps(client.Network()) }) {
			return true
		}
	}
	return false
}

// shown are the attributes of an event that concerns a segment; others may name another one.
var shown = []string{"segment", "from", "to", "weight", "reason", "device", "changed", "established_flows", "networks", "for", "left_out"}

// narrowEvents returns the events of a segment.
func narrowEvents(all []journal.Event, segment string) []journal.Event {
	narrowed := make([]journal.Event, 0)
	for _, event := range all {
		if event.Attributes["segment"] != segment {
			continue
		}
		event.Attributes = maps.Clone(event.Attributes)
		maps.DeleteFunc(event.Attributes, func(name, _ string) bool { return !slices.Contains(shown, name) })
		narrowed = append(narrowed, event)
	}
	return narrowed
}

// narrowHistory returns the history of a segment.
func narrowHistory(h vnicbridge.History, segment string) vnicbridge.History {
	return vnicbridge.History{
		Now: h.Now, Segments: map[string][]vnicbridge.Sample{segment: append([]vnicbridge.Sample{}, h.Segments[segment]...)}, Bridges: map[string][]vnicbridge.Sample{},
	}
}
