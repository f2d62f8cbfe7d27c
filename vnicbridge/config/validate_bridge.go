package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func (c *Config) validateBridge(name string) error {
	b := c.Bridges[name]
	if !nameForm.MatchString(name) {
		return errName
	}
	if b.NIC == "" {
		return errors.New("nic is missing: the device that faces the network")
	}
	if err := validInterface(b.NIC); err != nil {
		return err
	}
	if err := validAddresses(b.Addresses, "192.168.1.2/24"); err != nil {
		return err
	}
	if err := b.validateGateways(); err != nil {
		return err
	}
	if err := b.validateLinkLocal(); err != nil {
		return err
	}
	if err := b.validateDeny(); err != nil {
		return err
	}
	switch b.OnNoSegment {
	case "", Reject, Drop:
	default:
		return fmt.Errorf("on_no_segment %q: want reject or drop", b.OnNoSegment)
	}
	switch b.DAD {
	case "", DADOn, DADOff:
	default:
		return fmt.Errorf("dad %q: want on or off", b.DAD)
	}
	if err := c.validateNeighbours(name); err != nil {
		return err
	}
	if err := c.validateFailover(name); err != nil {
		return err
	}
	if err := b.validateAnnounce(); err != nil {
		return err
	}
	if err := c.validatePolicy(b); err != nil {
		return err
	}
	return c.validateAnnouncedSegments(name)
}

func (b *Bridge) validateGateways() error {
	var have [Families]netip.Addr
	for _, gw := range b.Gateways {
		f := FamilyOf(gw)
		own := b.Address(f)
		switch {
		case !gw.IsValid():
			return errors.New("gateway: the address is empty")
		case gw.Zone() != "":
			return fmt.Errorf("gateway %s: write it without %%%s, because the gateway is always on the link of nic", gw, gw.Zone())
		case !isHosts(gw):
			return fmt.Errorf("gateway %s: not a host's address", gw)
		case have[f].IsValid():
			return fmt.Errorf("gateway %s: there is an %s gateway already, %s, and there can be one of each family", gw, f, have[f])
		case !own.IsValid():
			return fmt.Errorf("gateway %s: the bridge has no %s address", gw, f)
		case gw == own.Addr():
			return fmt.Errorf("gateway %s is the pseudo address itself", gw)
		case !onLink(own, gw):
			return fmt.Errorf("gateway %s is not in the network %s", gw, own.Masked())
		}
		have[f] = gw
	}
	return nil
}

// validateLinkLocal checks the address that replaces the derived link-local one (A8).
func (b *Bridge) validateLinkLocal() error {
	a := b.LinkLocal
	switch {
	case !a.IsValid():
		return nil
	case !a.Is6() || a.Is4In6() || !a.IsLinkLocalUnicast() || a.Zone() != "":
		return fmt.Errorf("link_local %s: want an address of fe80::/10, as in fe80::2", a)
	case a == netip.PrefixFrom(a, 64).Masked().Addr():
		return fmt.Errorf("link_local %s: the address is the routers' anycast address; want a host's, as in fe80::2", a)
	case !b.Address(IPv6).IsValid():
		return fmt.Errorf("link_local %s: the bridge has no IPv6 address", a)
	case b.Gateway(IPv6) == a:
		return fmt.Errorf("link_local %s is the gateway's address", a)
	}
	return nil
}

// validateDeny checks that the bridge denies only others, and not its gateway: without that,
// nobody beyond the link would be told what routers have to say.
func (b *Bridge) validateDeny() error {
	for _, network := range b.Deny {
		if err := ValidDenied(network); err != nil {
			return fmt.Errorf("deny: %w", err)
		}
		if i := slices.IndexFunc(b.Gateways, network.Contains); i >= 0 {
			return fmt.Errorf("deny %s: the gateway %s is in it", network, b.Gateways[i])
		}
	}
	return nil
}

// ValidDenied returns an error unless a network can be denied.
func ValidDenied(network netip.Prefix) error {
	switch {
	case !network.IsValid():
		return errors.New("the network is empty")
	case network.Addr().Is4In6():
		return fmt.Errorf("%s: write it as IPv4: no packet has an address that is mapped into IPv6", network)
	case network != network.Masked():
		return fmt.Errorf("%s has bits beyond its length: the network is %s", network, network.Masked())
	}
	return nil
}

// onLink tells whether a gateway can be on the link of a NIC with an address. A /32 or /128
// has no network that could contain the gateway, so every gateway counts as on the link (A7).
// A link-local gateway is on every link.
func onLink(own netip.Prefix, gateway netip.Addr) bool {
	return own.IsSingleIP() || own.Masked().Contains(gateway) || gateway.Is6() && gateway.IsLinkLocalUnicast()
}

// validateNeighbours checks that a bridge shares nothing with the segments, or with the
// bridges before it in the order of their names.
func (c *Config) validateNeighbours(name string) error {
	b := c.Bridges[name]
	for _, seg := range SortedKeys(c.Segments) {
		s := c.Segments[seg]
		if s.InterfaceName(seg) == b.NIC {
			return fmt.Errorf("nic %s is the VNIC of segment %s", b.NIC, seg)
		}
		for f := range Families {
			if s.Subnet(f).Overlaps(b.Address(f).Masked()) {
				return fmt.Errorf("address %s overlaps segment %s's network %s", b.Address(f), seg, s.Subnet(f))
			}
			if s.Subnet(f).Contains(b.Gateway(f)) {
				return fmt.Errorf("gateway %s lies in segment %s's network %s", b.Gateway(f), seg, s.Subnet(f))
			}
		}
	}
	for _, other := range SortedKeys(c.Bridges) {
		if other >= name {
			break
		}
		if c.Bridges[other].NIC == b.NIC {
			return fmt.Errorf("nic %s is bridge %s's already", b.NIC, other)
		}
		for f := range Families {
			if own := b.Address(f).Addr(); own.IsValid() && c.Bridges[other].Address(f).Addr() == own {
				return fmt.Errorf("address %s is bridge %s's already", own, other)
			}
		}
	}
	return nil
}

func (c *Config) validatePolicy(b *Bridge) error {
	if len(b.Steer) == 0 && b.LBPolicy == nil {
		return errors.New("neither steer nor lb_policy: no flow would get a segment")
	}
	if err := c.validateSteer(b); err != nil {
		return err
	}
	if b.LBPolicy == nil {
		return nil
	}
	return c.validateChoice(b, b.LBPolicy)
}

// validateChoice checks a policy of a bridge, or of one of its steer rules.
func (c *Config) validateChoice(b *Bridge, p *Policy) error {
	if !slices.Contains(Policies, p.Policy) {
		if _, ok := c.Segments[string(p.Policy)]; ok {
			return fmt.Errorf("lb_policy %q: that is a segment; the policy comes first: want %s", p.Policy, policyList())
		}
		return fmt.Errorf("lb_policy %q: want %s", p.Policy, policyList())
	}
	if len(p.Segments) == 0 {
		return fmt.Errorf("lb_policy %s: no segments to choose from", p.Policy)
	}
	for i, seg := range p.Segments {
		if err := c.candidate(b, seg); err != nil {
			return fmt.Errorf("lb_policy %s: %w", p.Policy, err)
		}
		if slices.Contains(p.Segments[:i], seg) {
			return fmt.Errorf("lb_policy %s: segment %s is named twice", p.Policy, seg)
		}
	}
	return nil
}

func (c *Config) validateSteer(b *Bridge) error {
	names := 0
	for i, rule := range b.Steer {
		if rule.Sites {
			if err := rule.validateSites(); err != nil {
				return fmt.Errorf("steer rule %d: %w", i+1, err)
			}
			if first := b.steersSites(); first != i {
				return fmt.Errorf("steer rule %d: steer sites is given twice: remove one", i+1)
			}
			continue
		}
		if err := c.validateTarget(b, &rule); err != nil {
			return fmt.Errorf("steer rule %d: %w", i+1, err)
		}
		if err := rule.validate(); err != nil {
			return fmt.Errorf("steer rule %d (%s): %w", i+1, rule.To(), err)
		}
		if names += len(rule.Names); names > MaxNames {
			return fmt.Errorf("steer rule %d (%s): the rules up to this one have %d names, and a bridge has at most %d: write patterns such as *.example.com",
				i+1, rule.To(), names, MaxNames)
		}
	}
	return nil
}

// validateTarget checks what matching flows of a rule get.
func (c *Config) validateTarget(b *Bridge, r *Rule) error {
	switch {
	case r.LBPolicy == nil:
		return c.candidate(b, r.Segment)
	case r.Segment != "":
		return fmt.Errorf("segment %s and an lb_policy: want one of them", r.Segment)
	default:
		return c.validateChoice(b, r.LBPolicy)
	}
}

// candidate checks that a segment can get flows of a bridge.
func (c *Config) candidate(b *Bridge, segment string) error {
	if err := c.known(segment); err != nil {
		return err
	}
	if s := c.Segments[segment]; !shareFamily(s.Addresses, b.Addresses) {
		return fmt.Errorf("segment %s has no %s address, and the bridge no %s address, so it could give the segment no flow: add an address to one of them",
			segment, familiesOf(b.Addresses), familiesOf(s.Addresses))
	}
	return nil
}

func (r *Rule) validate() error {
	if len(r.Clients)+len(r.Names)+len(r.Ports)+len(r.Protocols) == 0 {
		return fmt.Errorf("no matcher; for all the other flows use lb_policy first %s", strings.Join(r.Segments(), " "))
	}
	if r.LBPolicy != nil && len(r.Names) == 0 {
		return errors.New("only a rule with names chooses among several segments: add the matcher name, or name one segment; the bridge's lb_policy chooses for the flows that no rule matches")
	}
	for _, client := range r.Clients {
		if client.Addr().Is4In6() {
			return fmt.Errorf("client %s: write it as an IPv4 address: no packet has one that is mapped into IPv6", client)
		}
	}
	if slices.Contains(r.Ports, AnyPort) {
		return errors.New("port any: name the ports; without a port matcher every port matches")
	}
	return r.validateNames()
}

// validateSites checks that a rule that stands for others has nothing else.
func (r *Rule) validateSites() error {
	if r.Segment != "" || r.LBPolicy != nil || len(r.Clients)+len(r.Names)+len(r.Ports)+len(r.Protocols) > 0 {
		return errors.New("sites stands alone: for a segment and matchers of your choice write a rule with their names")
	}
	return nil
}

func policyList() string {
	var names []string
	for _, p := range Policies {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}
