package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func (c *Config) validateSegment(name string) error {
	s := c.Segments[name]
	if !nameForm.MatchString(name) {
		return errName
	}
	if err := validInterface(s.InterfaceName(name)); err != nil {
		return err
	}
	if err := c.validateDevice(name); err != nil {
		return err
	}
	if s.Netns != "" && !nameForm.MatchString(s.Netns) {
		return fmt.Errorf("netns %q: %w", s.Netns, errName)
	}
	if err := validAddresses(s.Addresses, "192.168.50.1/24"); err != nil {
		return err
	}
	if !s.MAC.IsZero() && !s.MAC.IsUnicast() {
		return fmt.Errorf("mac %s: a device needs a unicast address (the first byte even)", s.MAC)
	}
	if err := c.validateEgress(name); err != nil {
		return err
	}
	if err := ValidWeight(s.Weight); err != nil {
		return err
	}
	if err := s.Health.validate(); err != nil {
		return err
	}
	if err := c.validateHealthFrom(name); err != nil {
		return err
	}
	if err := s.Limits.validate(); err != nil {
		return err
	}
	if err := c.validateClientIP(name); err != nil {
		return err
	}
	if err := c.validateAliases(name); err != nil {
		return err
	}
	if err := c.validateReach(name); err != nil {
		return err
	}
	return c.validateApart(name)
}

// validateApart checks that a segment shares nothing with those before it in the order
// of their names.
func (c *Config) validateApart(name string) error {
	s := c.Segments[name]
	for _, other := range SortedKeys(c.Segments) {
		if other >= name {
			break
		}
		o := c.Segments[other]
		if s.Netns != "" && o.Netns == s.Netns {
			return fmt.Errorf("netns %s is segment %s's already: what shares a namespace is not apart", s.Netns, other)
		}
		if o.InterfaceName(other) == s.InterfaceName(name) {
			return fmt.Errorf("%s %s is segment %s's already", s.deviceOption(), s.InterfaceName(name), other)
		}
		for f := range Families {
			if s.Subnet(f).Overlaps(o.Subnet(f)) {
				return fmt.Errorf("address %s overlaps segment %s's network %s", s.Address(f), other, o.Subnet(f))
			}
		}
	}
	return nil
}

func (c *Config) validateEgress(name string) error {
	switch egress := c.Segments[name].Egress; egress {
	case "", EgressOff, EgressGateway:
	case EgressAny:
		bridges := c.BridgesOf(name)
		if len(bridges) == 0 && c.waitsForSites(name) {
			return nil // a reload that removes the segment's last site must not fail
		}
		if len(bridges) == 0 {
			return errors.New("egress any: no bridge names the segment in steer or lb_policy, so it has no gateway to go by")
		}
		if len(c.GatewaysOf(name, IPv4))+len(c.GatewaysOf(name, IPv6)) == 0 {
			return fmt.Errorf("egress any: bridge %s has no %s gateway to go by", strings.Join(bridges, " and "), familiesOf(c.Segments[name].Addresses))
		}
	default:
		return fmt.Errorf("egress %q: want off, gateway or any", egress)
	}
	return nil
}

func (c *Config) validateClientIP(name string) error {
	switch c.Segments[name].ClientIP {
	case "", Translate:
		return nil
	case Preserve:
	default:
		return fmt.Errorf("client_ip %q: want translate or preserve", c.Segments[name].ClientIP)
	}
	if bridges := c.BridgesOf(name); len(bridges) > 1 {
		return fmt.Errorf("client_ip preserve: the segment is named by the bridges %s, and the same client address could come from each: name it in one, or translate", strings.Join(bridges, " and "))
	}
	return nil
}

func (c *Config) validateAliases(name string) error {
	s := c.Segments[name]
	if err := s.validateRange(); err != nil {
		return err
	}
	for f := range Families {
		if !s.Address(f).IsValid() {
			continue
		}
		if err := c.validatePool(name, f); err != nil {
			return err
		}
	}
	return nil
}

// validateRange checks the aliases that the configuration names. They have one family; the
// aliases of the other one are its default.
func (s *Segment) validateRange() error {
	if s.Aliases.IsZero() {
		return nil
	}
	subnet := s.Subnet(FamilyOf(s.Aliases.First))
	for _, end := range []netip.Addr{s.Aliases.First, s.Aliases.Last} {
		switch {
		case !subnet.IsValid():
			return fmt.Errorf("aliases %s: the segment has no %s address", s.Aliases, FamilyOf(s.Aliases.First))
		case !subnet.Contains(end):
			return fmt.Errorf("aliases %s: %s is not in the segment's network %s", s.Aliases, end, subnet)
		}
	}
	if DerivesAliases(subnet) {
		return fmt.Errorf("aliases %s: in an IPv6 network of /64 or shorter the aliases follow from the clients' addresses: remove the option, or use an address of /65 to /127", s.Aliases)
	}
	return nil
}

// validatePool checks that a segment has enough aliases of a family.
func (c *Config) validatePool(name string, f Family) error {
	s := c.Segments[name]
	have, need := len(s.AliasPool(f)), len(c.GatewaysOf(name, f))
	peers := len(c.PeerAliases(name, f))
	switch {
	case have == 0 && !s.ownsAliases(f):
		return fmt.Errorf("address %s: its network has no other address to use as an alias; the bridge needs at least one, for the gateway", s.Address(f))
	case have == 0:
		return fmt.Errorf("aliases %s: no address is left when the segment's own, the network's and the broadcast address are taken away", s.Aliases)
	case need > have-peers && peers > 0:
		return fmt.Errorf("%d aliases are too few: %d stand for other segments, and each of its bridges' %d gateways needs one", have, peers, need)
	case need > have:
		return fmt.Errorf("%d aliases are too few: each of its bridges' %d gateways needs one", have, need)
	}
	return nil
}

func (c *Config) validateReach(name string) error {
	s := c.Segments[name]
	for i, peer := range s.Reach {
		if err := c.known(peer); err != nil {
			return fmt.Errorf("reach: %w", err)
		}
		if peer == name {
			return errors.New("reach: a segment need not reach itself")
		}
		if slices.Contains(s.Reach[:i], peer) {
			return fmt.Errorf("reach: segment %s is named twice", peer)
		}
	}
	for _, peer := range s.Reach {
		if o := c.Segments[peer]; len(o.Addresses) > 0 && !shareFamily(s.Addresses, o.Addresses) {
			return fmt.Errorf("reach: segment %s has no %s address, and this one no %s address: add an address to one of them", peer, familiesOf(s.Addresses), familiesOf(o.Addresses))
		}
	}
	for f := range Families {
		peers := c.peersOfFamily(name, f)
		if len(peers) > 0 && len(c.PeerAliases(name, f)) == 0 {
			return fmt.Errorf("%d aliases are too few: half of them may stand for other segments, and %d do", len(s.AliasPool(f)), len(peers))
		}
	}
	return nil
}

func (c *Config) validateDefaultRoute() error {
	first := ""
	for _, name := range SortedKeys(c.Segments) {
		s := c.Segments[name]
		switch {
		case !s.DefaultRoute:
		case first != "":
			return &Error{"segment", name, fmt.Errorf("default_route: segment %s has it already, and there can be one", first)}
		case s.Netns != "":
			return &Error{"segment", name, errors.New("default_route: the host's own sockets are not in the segment's netns: give it to a segment without one")}
		case s.Egress != EgressAny:
			return &Error{"segment", name, errors.New("default_route: it needs egress any, because the host's sockets send to any address")}
		default:
			first = name
		}
	}
	return nil
}

// ValidWeight checks a segment's share of new flows. 0, the default, is valid.
func ValidWeight(weight int) error {
	if weight < 0 || weight > MaxWeight {
		return fmt.Errorf("weight %d: want 1 to %d", weight, MaxWeight)
	}
	return nil
}
