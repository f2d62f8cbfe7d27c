package vnicbridge

import (
	"maps"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// settingsOf returns how the VNIC of a segment should be set up behind the living bridges.
func (p *Plane) settingsOf(c *config.Config, segment string, bridges map[string]*bridge) host.VNICSettings {
	s := c.Segments[segment]
	settings := host.VNICSettings{Neighbours: make(map[netip.Addr]config.MAC)}
	settings.MTU, settings.NIC = mtuOf(c, segment, bridges)
	if aliases := s.AliasPool(config.IPv6); len(aliases) > 0 {
		settings.Router = aliases[0]
	}
	beyond := s.ClientIP == config.Preserve || s.EgressOrDefault() == config.EgressAny
	for f := range config.Families {
		maps.Copy(settings.Neighbours, p.aliasMACs(c, segment, f, bridges))
		if beyond && s.Address(f).IsValid() && len(c.GatewaysOf(segment, f)) > 0 {
			settings.Via[f] = s.AliasPool(f)[0]
			settings.HostRoute = s.DefaultRoute || s.Netns != ""
		}
	}
	return settings
}

// defaultMTU is that of Ethernet, for a segment that no bridge serves.
const defaultMTU = 1500

// mtuOf returns the MTU of a segment's VNIC: the lowest of the NICs that serve it (F8), and
// the NIC that has it.
func mtuOf(c *config.Config, segment string, bridges map[string]*bridge) (mtu int, nic string) {
	for _, name := range c.BridgesOf(segment) {
		if m := int(bridges[name].iface.MTU.Load()); mtu == 0 || m < mtu {
			mtu, nic = m, bridges[name].name
		}
	}
	if mtu == 0 {
		return defaultMTU, ""
	}
	return mtu, nic
}

// aliasMACs returns the MAC of each alias of a segment that is its neighbour (A3). The alias of a gateway has the
// gateway's MAC, the alias of another segment has the MAC of that segment's VNIC, and all
// other aliases have the first gateway's MAC. If a bridge has no gateway, or its gateway is
// not resolved yet, the NIC's MAC replaces the gateway's. In IPv6 only the aliases of gateways
// and of other segments are neighbours. All others are behind the first alias.
func (p *Plane) aliasMACs(c *config.Config, segment string, f config.Family, bridges map[string]*bridge) map[netip.Addr]config.MAC {
	macs := make(map[netip.Addr]config.MAC)
	for peer, alias := range c.PeerAliases(segment, f) {
		macs[alias] = p.vnicSpecOf(c, peer).MAC
	}
	served := c.BridgesOf(segment)
	if len(served) == 0 {
		return macs
	}
	gateways := c.GatewaysOf(segment, f)
	shared := bridges[served[0]].iface.MAC()
	if len(gateways) > 0 {
		shared = bridges[gateways[0]].gatewayMAC(c.Bridges[gateways[0]].Gateway(f))
	}
	aliases := c.SharedAliases(segment, f)
	if f == config.IPv6 {
		aliases = aliases[:min(len(aliases), max(1, len(gateways)))]
	}
	for i, alias := range aliases {
		macs[alias] = shared
		if i < len(gateways) {
			macs[alias] = bridges[gateways[i]].gatewayMAC(c.Bridges[gateways[i]].Gateway(f))
		}
	}
	return macs
}

func (b *bridge) gatewayMAC(gateway netip.Addr) config.MAC {
	if link := b.links[config.FamilyOf(gateway)]; link != nil {
		if mac, ok := link.Lookup(gateway); ok {
			return mac
		}
	}
	return b.iface.MAC()
}
