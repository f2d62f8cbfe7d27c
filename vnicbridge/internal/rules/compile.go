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
	Nics      map[string]*iface.Iface // the devices by the names of the configuration's bridges
	Vnics     map[string]*iface.Iface // the devices by the names of the configuration's segments
	Retired   []*iface.Iface          // devices only in older configurations: they keep flows but get no new ones
	Available map[string]bool         // the segments that may get new flows
	Host      []netip.Prefix          // the host's own addresses, with their networks
	Key       Key
}

// Compile compiles a configuration to a ruleset.
func Compile(in Inputs) *Ruleset {
	rules := &Ruleset{
		Bridges: make(map[*iface.Iface]*BridgeRules), Segments: make(map[*iface.Iface]*SegmentRules),
		VnicsOf: make(map[string][]*iface.Iface), Limits: make(map[*iface.Iface]config.Limits), Impossible: ImpossibleSources(in.Config, in.Host),
		Key: in.Key,
	}
	for name, device := range in.Vnics {
		rules.Limits[device] = in.Config.Segments[name].Limits
	}
	for f := range config.Families {
		in.compileFamily(f, rules)
	}
	return rules
}

// compileFamily adds the rules for flows of a family. A segment without an address of the
// family is no candidate for them.
func (in Inputs) compileFamily(f config.Family, rules *Ruleset) {
	candidates := make(map[string]Candidate)
	for name, device := range in.Vnics {
		vnic := device.Of(f)
		if vnic == nil {
			continue
		}
		if in.Available[name] {
			candidates[name] = Candidate{name, vnic, in.Config.Segments[name].WeightOrDefault()}
		}
		rules.Segments[vnic] = in.compileSegment(name, f)
		rules.add(vnic)
	}
	for name, device := range in.Nics {
		if nic := device.Of(f); nic != nil {
			rules.Bridges[nic] = in.compileBridge(name, f, candidates)
			rules.add(nic)
		}
	}
	for _, device := range in.Retired {
		if ifc := device.Of(f); ifc != nil {
			rules.add(ifc)
		}
	}
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

func (in Inputs) compileBridge(name string, f config.Family, candidates map[string]Candidate) *BridgeRules {
	b, nic := in.Config.Bridges[name], in.Nics[name].Of(f)
	rules := &BridgeRules{
		nic:       nic,
		Decisions: CompileDecisions(b, candidates, nic, in.Key),
		Gateway:   packet.NoAddr,
		Refuse:    b.OnNoSegment,
		Shared:    b.Failover != nil || b.Announce != nil,
	}
	if gateway := b.Gateway(f); gateway.IsValid() {
		rules.Gateway = packet.AddrOf(gateway)
	}
	return rules
}

func (in Inputs) compileSegment(name string, f config.Family) *SegmentRules {
	s := in.Config.Segments[name]
	rules := &SegmentRules{
		vnic:     in.Vnics[name].Of(f),
		Aliases:  newAliasPool(s.Subnet(f), in.Config.SharedAliases(name, f), in.Key),
		Reach:    make(map[packet.Addr]ReachRule),
		Preserve: s.ClientIP == config.Preserve,
		Ports:    s.Ports,
		Egress:   s.EgressOrDefault(),
	}
	for _, bridge := range in.Config.GatewaysOf(name, f) {
		rules.Gateways = append(rules.Gateways, in.Nics[bridge].Of(f))
	}
	for _, peer := range s.Reach {
		here, both := in.Config.PeerAlias(name, peer, f)
		there, _ := in.Config.PeerAlias(peer, name, f)
		if both {
			rules.Reach[packet.AddrOf(here)] = ReachRule{To: in.Vnics[peer].Of(f), Alias: packet.AddrOf(there)}
		}
	}
	return rules
}

// ImpossibleSources returns the addresses that no host outside can have (S1): neverOutside,
// the segments' networks, and the pseudo addresses and the host's own addresses, each with
// the broadcast address of its network.
func ImpossibleSources(cfg *config.Config, host []netip.Prefix) []netip.Prefix {
	sources := slices.Clone(neverOutside)
	for _, name := range config.SortedKeys(cfg.Segments) {
		for _, own := range cfg.Segments[name].Addresses {
			sources = append(sources, own.Masked())
		}
	}
	for _, name := range config.SortedKeys(cfg.Bridges) {
		for _, own := range cfg.Bridges[name].Addresses {
			sources = append(sources, ownAndBroadcast(own)...)
		}
	}
	for _, own := range host {
		sources = append(sources, ownAndBroadcast(own)...)
	}
	return sources
}

// ownAndBroadcast returns the addresses that no other host can have if an interface has the
// address and network p: the address, and the network's broadcast address, which a /31, a /32
// and IPv6 do not have.
func ownAndBroadcast(p netip.Prefix) []netip.Prefix {
	bits := p.Addr().BitLen()
	own := []netip.Prefix{netip.PrefixFrom(p.Addr(), bits)}
	if p.Addr().Is4() && p.Bits() < bits-1 {
		own = append(own, netip.PrefixFrom(config.LastAddr(p), bits))
	}
	return own
}
