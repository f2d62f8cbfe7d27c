package vnicbridge

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// ConfigError is what is wrong with one part of a configuration.
type ConfigError struct {
	Part string // "segment", "bridge", or "" for the configuration as a whole
	Name string // the name of the segment or bridge
	Err  error
}

func (e *ConfigError) Error() string {
	if e.Part == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%s %s: %v", e.Part, e.Name, e.Err)
}

func (e *ConfigError) Unwrap() error { return e.Err }

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)

// Validate checks all that can be checked without looking at the machine. The
// error is a [*ConfigError]; parts are checked in the order of their names.
func (c *Config) Validate() error {
	switch c.Datapath {
	case "", DatapathAuto, DatapathKernel, DatapathUserspace:
	default:
		return &ConfigError{Err: fmt.Errorf("datapath %q: want auto, kernel or userspace", c.Datapath)}
	}
	if c.MaxFlows < 0 || c.MaxFlows > maxMaxFlows {
		return &ConfigError{Err: fmt.Errorf("max_flows %d: want 1 to %d", c.MaxFlows, maxMaxFlows)}
	}
	for _, name := range sortedKeys(c.Segments) {
		if err := c.validateSegment(name); err != nil {
			return &ConfigError{"segment", name, err}
		}
	}
	for _, name := range sortedKeys(c.Bridges) {
		if err := c.validateBridge(name); err != nil {
			return &ConfigError{"bridge", name, err}
		}
	}
	return c.validateDefaultRoute()
}

func (c *Config) validateDefaultRoute() error {
	first := ""
	for _, name := range sortedKeys(c.Segments) {
		s := c.Segments[name]
		switch {
		case !s.DefaultRoute:
		case first != "":
			return &ConfigError{"segment", name, fmt.Errorf("default_route: segment %s has it already, and there can be one", first)}
		case s.Netns != "":
			return &ConfigError{"segment", name, errors.New("default_route: the host's own sockets are not in the segment's netns: give it to a segment without one")}
		case s.Egress != EgressAny:
			return &ConfigError{"segment", name, errors.New("default_route: it needs egress any, or nothing would come of it")}
		default:
			first = name
		}
	}
	return nil
}

var errNull = errors.New("the definition is null")

// maxMaxFlows keeps a slip of the keyboard from asking for all of the memory.
const maxMaxFlows = 1 << 26

func (c *Config) validateSegment(name string) error {
	s := c.Segments[name]
	if !nameForm.MatchString(name) {
		return errors.New("a name has letters, digits, _ and - only")
	}
	if s == nil {
		return errNull
	}
	if err := validInterface(s.InterfaceName(name)); err != nil {
		return err
	}
	if s.Netns != "" && !nameForm.MatchString(s.Netns) {
		return fmt.Errorf("netns %q: a name has letters, digits, _ and - only", s.Netns)
	}
	if err := oneIPv4(s.Addresses, "192.168.50.1/24"); err != nil {
		return err
	}
	if !s.MAC.IsZero() && !s.MAC.IsUnicast() {
		return fmt.Errorf("mac %s: a device needs a unicast address (the first byte even)", s.MAC)
	}
	if err := c.validateEgress(name); err != nil {
		return err
	}
	if s.Weight < 0 || s.Weight > MaxWeight {
		return fmt.Errorf("weight %d: want 1 to %d", s.Weight, MaxWeight)
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
	for _, other := range sortedKeys(c.Segments) {
		if other >= name {
			break
		}
		o := c.Segments[other]
		if s.Netns != "" && o.Netns == s.Netns {
			return fmt.Errorf("netns %s is segment %s's already: what shares a namespace is not apart", s.Netns, other)
		}
		if o.InterfaceName(other) == s.InterfaceName(name) {
			return fmt.Errorf("interface %s is segment %s's already", s.InterfaceName(name), other)
		}
		if s.subnet().Overlaps(o.subnet()) {
			return fmt.Errorf("address %s overlaps segment %s's network %s", s.Addresses[0], other, o.subnet())
		}
	}
	return nil
}

func (c *Config) validateEgress(name string) error {
	switch egress := c.Segments[name].Egress; egress {
	case "", EgressOff, EgressGateway:
	case EgressAny:
		bridges := c.bridgesOf(name)
		if len(bridges) == 0 {
			return errors.New("egress any: no bridge names the segment in steer or lb_policy, so it has no gateway to go by")
		}
		if len(c.gatewaysOf(name)) == 0 {
			return fmt.Errorf("egress any: bridge %s has no gateway to go by", bridges[0])
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
	if bridges := c.bridgesOf(name); len(bridges) > 1 {
		return fmt.Errorf("client_ip preserve: the segment is named by the bridges %s, and the same client address could come from each: name it in one, or translate", strings.Join(bridges, " and "))
	}
	return nil
}

func (c *Config) validateAliases(name string) error {
	s := c.Segments[name]
	for _, end := range []netip.Addr{s.Aliases.First, s.Aliases.Last} {
		if end.IsValid() && !s.subnet().Contains(end) {
			return fmt.Errorf("aliases %s: %s is not in the segment's network %s", s.Aliases, end, s.subnet())
		}
	}
	have := len(s.aliasPool())
	if have == 0 && s.Aliases.IsZero() {
		return fmt.Errorf("address %s: its network has no other address to use as an alias; the bridge needs at least one, for the gateway", s.Addresses[0])
	}
	if have == 0 {
		return fmt.Errorf("aliases %s: no address is left when the segment's own, the network's and the broadcast address are taken away", s.Aliases)
	}
	if need := len(c.gatewaysOf(name)); need > have {
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
	if peers := c.peersOf(name); len(peers) > 0 && len(c.peerAliases(name)) == 0 {
		return fmt.Errorf("%d aliases are too few: half of them may stand for other segments, and %d do", len(s.aliasPool()), len(peers))
	}
	return nil
}

func (c *Config) validateBridge(name string) error {
	b := c.Bridges[name]
	if !nameForm.MatchString(name) {
		return errors.New("a name has letters, digits, _ and - only")
	}
	if b == nil {
		return errNull
	}
	if b.NIC == "" {
		return errors.New("nic is missing: the device that faces the network")
	}
	if err := validInterface(b.NIC); err != nil {
		return err
	}
	if err := oneIPv4(b.Addresses, "192.168.1.2/24"); err != nil {
		return err
	}
	if err := b.validateGateway(); err != nil {
		return err
	}
	switch b.OnNoSegment {
	case "", Reject, Drop:
	default:
		return fmt.Errorf("on_no_segment %q: want reject or drop", b.OnNoSegment)
	}
	if err := c.validateNeighbours(name); err != nil {
		return err
	}
	return c.validatePolicy(b)
}

func (b *Bridge) validateGateway() error {
	gw := b.Gateway
	if !gw.IsValid() {
		return nil
	}
	if !gw.Is4() || gw.IsUnspecified() || gw.IsLoopback() || gw.IsMulticast() {
		return fmt.Errorf("gateway %s: want a host's IPv4 address", gw)
	}
	if gw == b.Addresses[0].Addr() {
		return fmt.Errorf("gateway %s is the pseudo address itself", gw)
	}
	// A /32 has no link of its own: its gateway is on the link by decree (A7).
	if net := b.Addresses[0].Masked(); net.Bits() < 32 && !net.Contains(gw) {
		return fmt.Errorf("gateway %s is not in the network %s", gw, net)
	}
	return nil
}

// validateNeighbours checks a bridge against the segments and the bridges of
// lesser names.
func (c *Config) validateNeighbours(name string) error {
	b := c.Bridges[name]
	for _, seg := range sortedKeys(c.Segments) {
		s := c.Segments[seg]
		if s.InterfaceName(seg) == b.NIC {
			return fmt.Errorf("nic %s is the VNIC of segment %s", b.NIC, seg)
		}
		if s.subnet().Overlaps(b.Addresses[0].Masked()) {
			return fmt.Errorf("address %s overlaps segment %s's network %s", b.Addresses[0], seg, s.subnet())
		}
		if s.subnet().Contains(b.Gateway) {
			return fmt.Errorf("gateway %s lies in segment %s's network %s", b.Gateway, seg, s.subnet())
		}
	}
	for _, other := range sortedKeys(c.Bridges) {
		if other >= name {
			break
		}
		if c.Bridges[other].NIC == b.NIC {
			return fmt.Errorf("nic %s is bridge %s's already", b.NIC, other)
		}
		if c.Bridges[other].Addresses[0].Addr() == b.Addresses[0].Addr() {
			return fmt.Errorf("address %s is bridge %s's already", b.Addresses[0].Addr(), other)
		}
	}
	return nil
}

func (c *Config) validatePolicy(b *Bridge) error {
	if len(b.Steer) == 0 && b.LBPolicy == nil {
		return errors.New("neither steer nor lb_policy: no flow would get a segment")
	}
	for i, rule := range b.Steer {
		if err := c.known(rule.Segment); err != nil {
			return fmt.Errorf("steer rule %d: %w", i+1, err)
		}
		if err := rule.validate(); err != nil {
			return fmt.Errorf("steer rule %d (%s): %w", i+1, rule.Segment, err)
		}
	}
	if b.LBPolicy == nil {
		return nil
	}
	if !slices.Contains(Policies, b.LBPolicy.Policy) {
		return fmt.Errorf("lb_policy %q: want %s", b.LBPolicy.Policy, policyList())
	}
	if len(b.LBPolicy.Segments) == 0 {
		return fmt.Errorf("lb_policy %s: no segments to choose from", b.LBPolicy.Policy)
	}
	for i, seg := range b.LBPolicy.Segments {
		if err := c.known(seg); err != nil {
			return fmt.Errorf("lb_policy %s: %w", b.LBPolicy.Policy, err)
		}
		if slices.Contains(b.LBPolicy.Segments[:i], seg) {
			return fmt.Errorf("lb_policy %s: segment %s is named twice", b.LBPolicy.Policy, seg)
		}
	}
	return nil
}

func (r *Rule) validate() error {
	if len(r.Clients)+len(r.Ports)+len(r.Protocols) == 0 {
		return fmt.Errorf("no matcher; for all the other flows use lb_policy first %s", r.Segment)
	}
	for _, client := range r.Clients {
		if !client.Addr().Is4() {
			return fmt.Errorf("client %s: only IPv4 is supported for now", client)
		}
	}
	if slices.Contains(r.Ports, AnyPort) {
		return errors.New("port any: name the ports; without a port matcher every port matches")
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

func (c *Config) known(segment string) error {
	if _, ok := c.Segments[segment]; ok {
		return nil
	}
	return UnknownSegment(segment, sortedKeys(c.Segments))
}

// UnknownSegment is the error for a segment's name that the configuration does
// not have; known are the names that it has.
func UnknownSegment(name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("unknown segment %q: the configuration has none", name)
	}
	return fmt.Errorf("unknown segment %q: the configuration has %s", name, strings.Join(known, ", "))
}

func validInterface(name string) error {
	if len(name) > MaxInterfaceName {
		return fmt.Errorf("interface %s: %d bytes, and Linux takes at most %d", name, len(name), MaxInterfaceName)
	}
	if name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n") {
		return fmt.Errorf("interface %q: not a device name (no slash, colon or space)", name)
	}
	return nil
}

func oneIPv4(addrs []netip.Prefix, example string) error {
	if len(addrs) == 0 {
		return fmt.Errorf("address is missing, as in %s", example)
	}
	if len(addrs) > 1 {
		return fmt.Errorf("%d addresses: one is supported for now", len(addrs))
	}
	p := addrs[0]
	a := p.Addr()
	switch {
	case !a.Is4():
		return fmt.Errorf("address %s: only IPv4 is supported for now", p)
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("address %s: not a host's address", p)
	case p.Bits() == 0:
		return fmt.Errorf("address %s: the prefix length is missing or 0", p)
	case p.Bits() < 31 && a == p.Masked().Addr():
		return fmt.Errorf("address %s is the network's own; the first host is %s", p, a.Next())
	case p.Bits() < 31 && a == lastAddr(p):
		return fmt.Errorf("address %s is the network's broadcast address", p)
	}
	return nil
}

// InterfaceName is the VNIC's device name: the one set, or the default for a
// segment of the given name.
func (s *Segment) InterfaceName(segment string) string {
	if s.Interface != "" {
		return s.Interface
	}
	return "vnic-" + segment
}

// hardwareAddr is the VNIC's MAC: the one set, or one derived from the device's
// name, with the locally administered bit of IEEE 802 set.
func (s *Segment) hardwareAddr(iface string) MAC {
	if !s.MAC.IsZero() {
		return s.MAC
	}
	sum := sha256.Sum256([]byte("caddy-vnic " + iface))
	mac := MAC(sum[:6])
	mac[0] = mac[0]&^3 | 2
	return mac
}

func (s *Segment) subnet() netip.Prefix { return s.Addresses[0].Masked() }

// aliasPool lists the segment's aliases, the gateway's first.
func (s *Segment) aliasPool() []netip.Addr {
	own := s.Addresses[0]
	network, broadcast := own.Masked().Addr(), lastAddr(own)
	first, last := s.Aliases.First, s.Aliases.Last
	if s.Aliases.IsZero() {
		first, last = network, broadcast
	}
	var pool []netip.Addr
	for a := first; a.IsValid() && a.Compare(last) <= 0 && len(pool) < MaxAliases; a = a.Next() {
		reserved := own.Bits() < 31 && (a == network || a == broadcast)
		if !reserved && a != own.Addr() {
			pool = append(pool, a)
		}
	}
	return pool
}

// lastAddr is the highest address of a prefix: for IPv4, its broadcast address.
func lastAddr(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
