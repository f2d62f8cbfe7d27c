package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Error says what is wrong with one part of a configuration, and what to do.
type Error struct {
	Part string // "segment", "bridge", or "" for the configuration as a whole
	Name string // the name of the segment or bridge
	Err  error
}

func (e *Error) Error() string {
	if e.Part == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%s %s: %v", e.Part, e.Name, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// nameForm is the form of a name of a segment, a bridge or a namespace. Commands take such
// names as arguments, so none begins with "-".
var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)
	errName  = errors.New("a name has letters, digits, _ and - only, and does not begin with -")
)

// Validate checks all that can be checked without looking at the machine. The
// error is an [*Error]. A definition that is null is reported first. Then the segments and
// the bridges are checked in the order of their names.
func (c *Config) Validate() error {
	switch c.Datapath {
	case "", DatapathAuto, DatapathKernel, DatapathUserspace:
	default:
		return &Error{Err: fmt.Errorf("datapath %q: want auto, kernel or userspace", c.Datapath)}
	}
	if c.MaxFlows < 0 || c.MaxFlows > maxMaxFlows {
		return &Error{Err: fmt.Errorf("max_flows %d: want 1 to %d", c.MaxFlows, maxMaxFlows)}
	}
	if err := c.validateDefined(); err != nil {
		return err
	}
	for _, name := range SortedKeys(c.Segments) {
		if err := c.validateSegment(name); err != nil {
			return &Error{"segment", name, err}
		}
	}
	for _, name := range SortedKeys(c.Bridges) {
		if err := c.validateBridge(name); err != nil {
			return &Error{"bridge", name, err}
		}
	}
	return c.validateDefaultRoute()
}

var errNull = errors.New("the definition is null")

// validateDefined refuses null, which JSON allows as a definition. It comes before all
// other checks, because the check of one part also reads the definitions of other parts.
func (c *Config) validateDefined() error {
	for _, name := range SortedKeys(c.Segments) {
		if c.Segments[name] == nil {
			return &Error{"segment", name, errNull}
		}
	}
	for _, name := range SortedKeys(c.Bridges) {
		if c.Bridges[name] == nil {
			return &Error{"bridge", name, errNull}
		}
	}
	return nil
}

// maxMaxFlows keeps a slip of the keyboard from asking for all of the memory.
const maxMaxFlows = 1 << 26

func (c *Config) known(segment string) error {
	if _, ok := c.Segments[segment]; ok {
		return nil
	}
	return UnknownSegment(segment, SortedKeys(c.Segments))
}

// UnknownSegment returns the error for a segment that the configuration does not have. known
// are the segments that it has.
func UnknownSegment(name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("unknown segment %q: the configuration has none", name)
	}
	return fmt.Errorf("unknown segment %q: the configuration has %s", name, strings.Join(known, ", "))
}

// UnknownBridge returns the error for a bridge that the configuration does not have. known
// are the bridges that it has.
func UnknownBridge(name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("unknown bridge %q: the configuration has none", name)
	}
	return fmt.Errorf("unknown bridge %q: the configuration has %s", name, strings.Join(known, ", "))
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

// validAddresses checks the addresses of a segment or a bridge (A0).
func validAddresses(addrs []netip.Prefix, example string) error {
	if len(addrs) == 0 {
		return fmt.Errorf("address is missing, as in %s", example)
	}
	var have [Families]netip.Prefix
	for _, p := range addrs {
		if err := validAddress(p); err != nil {
			return err
		}
		f := FamilyOf(p.Addr())
		if have[f].IsValid() {
			return fmt.Errorf("address %s: there is an %s address already, %s, and there can be one of each family", p, f, have[f])
		}
		have[f] = p
	}
	return nil
}

func validAddress(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case a.Is4In6():
		return fmt.Errorf("address %s: write it as an IPv4 address, %s", p, a.Unmap())
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("address %s: a link-local address is valid only on its link: want a unique local address (fd00::/8) or a global one", p)
	case !isHosts(a):
		return fmt.Errorf("address %s: not a host's address", p)
	case p.Bits() <= 0:
		return fmt.Errorf("address %s: the prefix length is missing or 0", p)
	case overlapsReserved(p):
		return fmt.Errorf("address %s: its network has addresses that no host can have: use a longer prefix, such as /64", p)
	case isNetworks(p, a) && a == p.Masked().Addr():
		return fmt.Errorf("address %s is the network's own; the first host is %s", p, a.Next())
	case isNetworks(p, a):
		return fmt.Errorf("address %s is the network's broadcast address", p)
	}
	return nil
}

// reservedIPv6 are the networks with which no network of a segment or bridge overlaps:
// unspecified and loopback, IPv4 that is mapped into IPv6, link-local, multicast.
var reservedIPv6 = []netip.Prefix{
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("::ffff:0:0/96"),
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

func overlapsReserved(p netip.Prefix) bool { return slices.ContainsFunc(reservedIPv6, p.Overlaps) }

// isHosts tells whether one host can have an address.
func isHosts(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.Is4In6() && a.Zone() == "" &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
