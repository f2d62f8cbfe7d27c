package rules

import (
	"net/netip"
	"slices"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Inputs are what a ruleset is compiled from.
type Inputs struct {
	Config    *config.Config          // valid, with what the admin has set by hand
	Nics      map[string]*iface.Iface // by the names of the configuration's bridges
	Vnics     map[string]*iface.Iface // by the names of the configuration's segments
	Retired   []*iface.Iface          // only in older configurations: they keep flows but get no new ones
	Available map[string]bool         // the segments that may get new flows
	Host      []netip.Prefix          // the host's own addresses, with their networks
	Key       Key
}

// Compile compiles a configuration to a ruleset.
func Compile(in Inputs) *Ruleset {
	rules := &Ruleset{
		Bridges: make(map[*iface.Iface]*BridgeRules), Segments: make(map[*iface.Iface]*SegmentRules),
		VnicsOf: make(map[string][]*iface.Iface), Impossible: ImpossibleSources(in.Config, in.Host),
	}
	candidates := make(map[string]Candidate)
	for name, vnic := range in.Vnics {
		if in.Available[name] {
			candidates[name] = Candidate{name, vnic, in.Config.Segments[name].WeightOrDefault()}
		}
		rules.Segments[vnic] = in.compileSegment(name)
		rules.add(vnic)
	}
	for name, nic := range in.Nics {
		rules.Bridges[nic] = in.compileBridge(name, candidates)
		rules.add(nic)
	}
	for _, ifc := range in.Retired {
		rules.add(ifc)
	}
	return rules
}

// add adds an iface to the lists of all ifaces.
func (r *Ruleset) add(ifc *iface.Iface) {
	if ifc.NIC != nil {
		r.Nics = append(r.Nics, ifc)
		return
	}
	r.vnics = append(r.vnics, ifc)
	r.VnicsOf[ifc.VNIC.Segment] = append(r.VnicsOf[ifc.VNIC.Segment], ifc)
}

func (in Inputs) compileBridge(name string, candidates map[string]Candidate) *BridgeRules {
	b, nic := in.Config.Bridges[name], in.Nics[name]
	rules := &BridgeRules{
		nic:       nic,
		Decisions: CompileDecisions(b, candidates, nic, in.Key),
		Gateway:   packet.NoAddr,
		Refuse:    b.OnNoSegment,
	}
	if b.Gateway.IsValid() {
		rules.Gateway = packet.AddrOf(b.Gateway)
	}
	return rules
}

func (in Inputs) compileSegment(name string) *SegmentRules {
	s := in.Config.Segments[name]
	rules := &SegmentRules{
		vnic:     in.Vnics[name],
		Aliases:  newAliasPool(in.Config.SharedAliases(name), in.Key),
		Reach:    make(map[packet.Addr]ReachRule),
		Preserve: s.ClientIP == config.Preserve,
		Ports:    s.Ports,
		Egress:   s.EgressOrDefault(),
	}
	for _, bridge := range in.Config.GatewaysOf(name) {
		rules.Gateways = append(rules.Gateways, in.Nics[bridge])
	}
	for _, peer := range s.Reach {
		here, _ := in.Config.PeerAlias(name, peer)
		there, _ := in.Config.PeerAlias(peer, name)
		rules.Reach[packet.AddrOf(here)] = ReachRule{To: in.Vnics[peer], Alias: packet.AddrOf(there)}
	}
	return rules
}

// ImpossibleSources returns the addresses that no host outside can have (S1): neverOutside,
// the segments' networks, and the pseudo addresses and the host's own addresses, each with
// the broadcast address of its network.
func ImpossibleSources(cfg *config.Config, host []netip.Prefix) []netip.Prefix {
	sources := slices.Clone(neverOutside)
	for _, name := range config.SortedKeys(cfg.Segments) {
		sources = append(sources, cfg.Segments[name].Subnet())
	}
	for _, name := range config.SortedKeys(cfg.Bridges) {
		sources = append(sources, ownAndBroadcast(cfg.Bridges[name].Addresses[0])...)
	}
	for _, own := range host {
		sources = append(sources, ownAndBroadcast(own)...)
	}
	return sources
}

// ownAndBroadcast returns the two addresses that no other host can have if an interface has
// the address and network p. A /31 or /32 has no broadcast address.
func ownAndBroadcast(p netip.Prefix) []netip.Prefix {
	bits := p.Addr().BitLen()
	own := []netip.Prefix{netip.PrefixFrom(p.Addr(), bits)}
	if p.Bits() < bits-1 {
		own = append(own, netip.PrefixFrom(config.LastAddr(p), bits))
	}
	return own
}
