package vnicbridge

import "net/netip"

// settingsOf is how the VNIC of a segment should be set up behind the living bridges.
func settingsOf(c *Config, segment string, bridges map[string]*bridge) vnicSettings {
	settings := vnicSettings{mtu: mtuOf(c, segment, bridges), neighbours: aliasMACs(c, segment, bridges)}
	beyond := c.Segments[segment].ClientIP == Preserve || c.Segments[segment].egress() == EgressAny
	if beyond && len(c.gatewaysOf(segment)) > 0 {
		settings.via = c.Segments[segment].aliasPool()[0]
		settings.hostRoute = c.Segments[segment].DefaultRoute || c.Segments[segment].Netns != ""
	}
	return settings
}

// defaultMTU is that of Ethernet, for a segment that no bridge serves.
const defaultMTU = 1500

// mtuOf is the MTU of a segment's VNIC: that of the smallest NIC that serves it
// (F8).
func mtuOf(c *Config, segment string, bridges map[string]*bridge) int {
	mtu := 0
	for _, name := range c.bridgesOf(segment) {
		if m := int(bridges[name].port.mtu.Load()); mtu == 0 || m < mtu {
			mtu = m
		}
	}
	if mtu == 0 {
		return defaultMTU
	}
	return mtu
}

// aliasMACs gives each alias of a segment the MAC of the host behind it (A3): a
// gateway's alias its own, another segment's that of its VNIC; the shared ones the
// first gateway's. While that is not resolved, and where there is none, the NIC's
// stands in.
func aliasMACs(c *Config, segment string, bridges map[string]*bridge) map[netip.Addr]MAC {
	macs := make(map[netip.Addr]MAC)
	for peer, alias := range c.peerAliases(segment) {
		macs[alias] = vnicSpecOf(c, peer).mac
	}
	served := c.bridgesOf(segment)
	if len(served) == 0 {
		return macs
	}
	gateways := c.gatewaysOf(segment)
	shared := bridges[served[0]].port.mac()
	if len(gateways) > 0 {
		shared = bridges[gateways[0]].gatewayMAC(c.Bridges[gateways[0]].Gateway)
	}
	for i, alias := range c.sharedAliases(segment) {
		macs[alias] = shared
		if i < len(gateways) {
			macs[alias] = bridges[gateways[i]].gatewayMAC(c.Bridges[gateways[i]].Gateway)
		}
	}
	return macs
}

func (b *bridge) gatewayMAC(gateway netip.Addr) MAC {
	if mac, ok := b.link.lookup(gateway); ok {
		return mac
	}
	return b.port.mac()
}
