package vnicbridge

import (
	"net/netip"
	"slices"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/health"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Status is a snapshot of a [Plane], for people and programs to read.
type Status struct {
	Datapath config.Datapath `json:"datapath"` // the one in use
	// Why userspace carries although the configuration allows the kernel data path: what
	// that path lacks here, and the fix.
	DatapathReason string `json:"datapath_reason,omitempty"`
	// Routing rules, and programs on devices, of others that run before the bridge's and
	// cannot be put behind it: what may come of each, and the fix.
	Obstacles []string `json:"obstacles,omitempty"`

	Flows    int                      `json:"flows"`     // in the table now
	MaxFlows int                      `json:"max_flows"` // the bound
	Bans     int                      `json:"bans"`      // in force: see Bans
	Segments map[string]SegmentStatus `json:"segments"`
	Bridges  map[string]BridgeStatus  `json:"bridges"`
}

// SegmentStatus describes a segment and counts its traffic.
type SegmentStatus struct {
	State            config.State       `json:"state"` // set by hand; the configuration has none
	Health           HealthStatus       `json:"health"`
	Weight           int                `json:"weight"`            // the share that is in force
	ConfiguredWeight int                `json:"configured_weight"` // differs from Weight if that is set by hand
	Interface        string             `json:"interface"`
	Addresses        []netip.Prefix     `json:"addresses"`
	MAC              config.MAC         `json:"mac"`
	Netns            string             `json:"netns,omitempty"`   // its own; empty: the host's, which is one trust domain
	Device           string             `json:"device,omitempty"`  // behind which its server is; empty: the server is on this machine
	Servers          []ServerStatus     `json:"servers,omitempty"` // behind the device, one of each family
	Aliases          []config.AddrRange `json:"aliases"`           // one range for each family
	Ports            []config.PortRange `json:"ports"`             // what may enter now
	Limits           config.Limits      `json:"limits,omitzero"`
	Refused          uint64             `json:"refused"` // packets beyond one of Limits: they would have begun a flow, or exceeded the rate
	Egress           config.Egress      `json:"egress"`
	ClientIP         config.ClientIP    `json:"client_ip"`

	Reach []string `json:"reach,omitempty"` // the segments to which it may open flows

	// The aliases, one of each common family, under which it sees the segments that it may
	// reach, or that may reach it.
	Peers map[string][]netip.Addr `json:"peers,omitempty"`
	Counters
}

// HealthStatus says whether a segment is healthy. An unhealthy one gets no new flows.
type HealthStatus struct {
	Healthy bool      `json:"healthy"`
	Checked bool      `json:"checked"`          // there is a check; without one, a segment with a VNIC is healthy
	Reason  string    `json:"reason,omitempty"` // why it is unhealthy
	Since   time.Time `json:"since,omitzero"`   // when Healthy last changed, if it ever did
}

func healthStatus(c health.Condition) HealthStatus {
	return HealthStatus{Healthy: c.Problem == "", Checked: c.Checked, Reason: c.Problem, Since: c.Since}
}

// BridgeStatus describes a bridge and counts its traffic.
type BridgeStatus struct {
	NIC         string             `json:"nic"`
	Up          bool               `json:"up"` // the NIC has a carrier and is administratively up
	MAC         config.MAC         `json:"mac"`
	Addresses   []netip.Prefix     `json:"addresses"`
	Gateways    []GatewayStatus    `json:"gateways,omitempty"`
	Steer       []config.Rule      `json:"steer,omitempty"`
	Policy      *config.Policy     `json:"lb_policy,omitempty"`   // of the configuration
	SwitchedTo  string             `json:"switched_to,omitempty"` // the segment that an admin prefers to the policy's choice
	OnNoSegment config.OnNoSegment `json:"on_no_segment"`

	Failover  *FailoverStatus `json:"failover,omitempty"` // nil: this machine always has the addresses
	Announce  *AnnounceStatus `json:"announce,omitempty"` // nil: the link is told of the addresses
	Conflicts uint64          `json:"conflicts"`          // how often another host was seen that uses a pseudo address

	// The segments that new flows can get now, for each family of the bridge: those that its
	// policy and steer rules name, that are active and healthy, and that have an address of
	// the family.
	Candidates map[config.Family][]string `json:"candidates"`

	// How many flows each steer rule with names has chosen the segment of, by the first name of
	// the rule. "" stands for flows that asked for no such name.
	FlowsByName map[string]uint64 `json:"flows_by_name,omitempty"`
	Counters
}

// candidates returns the segments that new flows of a bridge can get now, by family.
func (p *Plane) candidates(bridge string) map[config.Family][]string {
	candidates := make(map[config.Family][]string)
	for f := range config.Families {
		if !p.cfg.Bridges[bridge].Address(f).IsValid() {
			continue
		}
		candidates[f] = make([]string, 0) // an empty list in JSON
		for _, name := range p.cfg.Candidates(bridge, f) {
			if p.takesNewFlows(name, p.segments[name]) {
				candidates[f] = append(candidates[f], name)
			}
		}
	}
	return candidates
}

// GatewayStatus describes a gateway of a bridge.
type GatewayStatus struct {
	Address netip.Addr `json:"address"`
	MAC     config.MAC `json:"mac,omitzero"`     // once it is resolved
	Silent  bool       `json:"silent,omitempty"` // it does not answer, although it is asked each second
}

// Counters are the counts of a device since it was made, except Flows.
type Counters struct {
	Flows    int               `json:"flows"`     // in the table now
	NewFlows uint64            `json:"new_flows"` // admitted so far
	Packets  Traffic           `json:"packets"`
	Bytes    Traffic           `json:"bytes"` // of Ethernet frames, without offload headers
	Drops    map[string]uint64 `json:"drops"` // of packets from the segment or the network, by reason
}

// Traffic is a count for each direction, seen from the segment, or from the network of a
// bridge's NIC.
type Traffic struct {
	From uint64 `json:"from"` // what the segment, or the network, has sent
	To   uint64 `json:"to"`   // what was sent to it
}

// count returns what the ifaces of a device have carried and dropped, on either data path.
func (p *Plane) count(device *iface.Iface) Counters {
	var v iface.CounterValues
	flows := int64(0)
	for _, ifc := range device.Each() {
		v.Add(p.countersOf(ifc))
		flows += ifc.Gauges().Flows.Load()
	}
	drops := make(map[string]uint64)
	for reason, n := range v.Drops {
		if n > 0 {
			drops[packet.DropReason(reason).String()] = n
		}
	}
	return Counters{
		Flows: int(flows), NewFlows: v.NewFlows,
		Packets: Traffic{From: v.PacketsIn, To: v.PacketsOut},
		Bytes:   Traffic{From: v.BytesIn, To: v.BytesOut},
		Drops:   drops,
	}
}

// countersOf returns what both data paths have counted at an iface.
func (p *Plane) countersOf(ifc *iface.Iface) (v iface.CounterValues) {
	if k := p.datapaths.kernelPath(); k != nil {
		v = k.Counters(ifc)
	}
	return ifc.Counters.Values(v)
}

// DropReasons returns all the reasons that [Counters.Drops] may have.
func DropReasons() []string { return slices.Clone(packet.DropNames[packet.Keep+1:]) }
