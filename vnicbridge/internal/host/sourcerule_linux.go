package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Packets with a VNIC's address as their source leave by that VNIC, whatever routes the host
// has (A6): a rule for the address chooses a routing table of the VNIC's own. The table has
// the routes to the segment's network. If the segment answers addresses beyond its network
// (client_ip preserve, egress any), the table also has a default route by the gateway's alias.
//
// The rule outlives the device and the process. The routes of its table do not, and without
// them the rule has no effect. Our rules carry a protocol number, by which the next start
// finds what a killed process left.
const (
	ruleProtocol = 76         // not in /etc/iproute2/rt_protos
	ruleTables   = 0x76630000 // the device's index is added
)

// LatestPriority is the priority of our rules if the rules of others all come later. The
// kernel puts a rule that is added without a priority right before the second rule
// (fib_default_rule_pref in net/core/fib_rules.c). wg-quick adds two such rules, which must be
// in the opposite order. So there must be free numbers below ours.
const LatestPriority = 1000

// Table returns the number of the VNIC's own routing table.
func (v *VNICSetup) Table() int { return ruleTables + v.Ifindex }

// Rule returns the VNIC's rule of a family, with a priority.
func (v *VNICSetup) Rule(f config.Family, priority int) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family = netlinkFamily(f)
	rule.Priority, rule.Protocol, rule.Table = priority, ruleProtocol, v.Table()
	own := v.Spec.Addresses[f].Addr()
	rule.Src = IPNet(netip.PrefixFrom(own, own.BitLen()))
	return rule
}

func netlinkFamily(f config.Family) int {
	if f == config.IPv6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// ensureRule keeps the rules in their places, and the routes to the segment's networks in the
// rules' table.
func (v *VNICSetup) ensureRule(want VNICSettings) (changed bool, err error) {
	return v.each(want, func(f config.Family) (bool, error) {
		routes, err := v.ensureNetworkInTable(f, want)
		if err != nil {
			return routes, err
		}
		rule, err := v.ensurePlace(f)
		return routes || rule, err
	})
}

func (v *VNICSetup) ensureNetworkInTable(f config.Family, want VNICSettings) (bool, error) {
	if f == config.IPv6 {
		return v.ensureNetworkByRouter(want, v.Table())
	}
	onLink := &netlink.Route{LinkIndex: v.Ifindex, Table: v.Table(), Dst: IPNet(v.Spec.Addresses[f].Masked()), Scope: netlink.SCOPE_LINK}
	return added(v.NS.Netlink.RouteAddEcmp(onLink))
}

// ensureDefaultRoute keeps the default routes of the rules' table, or their absence. The
// address comes first: in a namespace without any address the kernel takes every gateway
// for a broadcast address (__inet_dev_addr_type in net/ipv4/fib_frontend.c).
func (v *VNICSetup) ensureDefaultRoute(want VNICSettings) (bool, error) {
	return v.each(want, func(f config.Family) (bool, error) {
		if err := v.dropStaleRoute(f, want, v.DefaultRoute); err != nil || !want.Via[f].IsValid() {
			return false, err
		}
		return added(v.NS.Netlink.RouteAddEcmp(v.DefaultRoute(want.Via[f]))) // before any other
	})
}

// DefaultRoute returns the route of the VNIC's own table to everything beyond its network.
func (v *VNICSetup) DefaultRoute(via netip.Addr) *netlink.Route {
	route := &netlink.Route{LinkIndex: v.Ifindex, Table: v.Table(), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	if via.Is6() {
		route.Priority = firstMetric
	}
	return route
}

// dropStaleRoute removes the route by the gateway's alias from before, if the alias changed.
func (v *VNICSetup) dropStaleRoute(f config.Family, want VNICSettings, route func(via netip.Addr) *netlink.Route) error {
	before := v.set.Via[f]
	if !before.IsValid() || before == want.Via[f] {
		return nil
	}
	return ignoreMissing(v.NS.Netlink.RouteDel(route(before)))
}

// ensurePlace keeps the rule of a family before those of others.
//
// In a segment's own namespace, the rule has a fixed priority. Root there could make so many
// rules that listing them would stall this process. Rules that root puts before ours harm
// only that segment.
func (v *VNICSetup) ensurePlace(f config.Family) (changed bool, err error) {
	if v.Spec.Netns != "" {
		return added(v.NS.Netlink.RuleAdd(v.Rule(f, LatestPriority)))
	}
	rules, err := listRules(v.NS, f)
	if err != nil {
		return false, err
	}
	priority, _ := placeOfOurs(rules)
	own := v.ownRules(rules)
	stands := slices.IndexFunc(own, func(r netlink.Rule) bool { return r.Priority == priority })
	if stands < 0 {
		changed = true
		if err := v.NS.Netlink.RuleAdd(v.Rule(f, priority)); err != nil {
			return changed, err
		}
	} else {
		own = slices.Delete(own, stands, stands+1)
	}
	if len(own) > 0 { // at another priority, which others have overtaken
		changed = true
	}
	return changed, removeRules(v.NS, own)
}

// ownRules returns this VNIC's rules.
func (v *VNICSetup) ownRules(rules []netlink.Rule) []netlink.Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r netlink.Rule) bool { return !isOurs(r) || r.Table != v.Table() })
}

// removeRules removes the rules, if they stand; the table's routes go with the device.
func (v *VNICSetup) removeRules() error {
	var errs []error
	for f := range config.Families {
		if v.Spec.has(f) {
			errs = append(errs, v.removeRule(f))
		}
	}
	return errors.Join(errs...)
}

func (v *VNICSetup) removeRule(f config.Family) error {
	if v.Spec.Netns != "" {
		return ignoreMissing(v.NS.Netlink.RuleDel(v.Rule(f, LatestPriority)))
	}
	rules, err := listRules(v.NS, f)
	if err != nil {
		return err
	}
	return removeRules(v.NS, v.ownRules(rules))
}

// isOurs tells whether a rule is this program's, of this process or another.
func isOurs(r netlink.Rule) bool { return r.Protocol == ruleProtocol }

// isLocalTable tells whether a rule is the one that makes the host know its own addresses.
func isLocalTable(r netlink.Rule) bool {
	return r.Table == unix.RT_TABLE_LOCAL && r.Src == nil && r.Dst == nil && r.IifName == "" && r.OifName == "" && r.Mark == 0
}

// placeOfOurs returns the priority at which our rules come before all others, but after the
// rule of the local table, so that the host reaches itself. ahead are rules of others that
// come first nevertheless, because no lower priority is free.
func placeOfOurs(rules []netlink.Rule) (priority int, ahead []netlink.Rule) {
	local := slices.IndexFunc(rules, isLocalTable)
	least := 0
	if local >= 0 {
		least = rules[local].Priority
	}
	priority = LatestPriority
	first := false // a rule of ours at the least priority has come already
	for i, r := range rules {
		switch {
		case i == local:
		case isOurs(r):
			first = first || r.Priority == least
		case i < local, r.Priority == least && !first:
			ahead = append(ahead, r)
		default:
			priority = min(priority, r.Priority-1)
		}
	}
	return max(priority, least), ahead
}

// RulesAhead reports routing rules of others that come before ours although ours should be
// first: what may come of each, and the fix. Rules of IPv6 matter only if a segment has IPv6.
func (m *Machine) RulesAhead(families ...config.Family) (told []string) {
	for _, f := range families {
		rules, err := listRules(m.NS, f)
		if err != nil {
			continue // ensurePlace reports the error
		}
		_, ahead := placeOfOurs(rules)
		for _, r := range ahead {
			told = append(told, fmt.Sprintf("a routing rule%s of priority %d comes before the segments' own, and nothing can stand before it: the answers that it matches are lost; give it a higher number (%s)", ofFamily[f], r.Priority, ruleCommand[f]))
		}
	}
	return told
}

// RulesReading reports routing rules of others that look routes up in a table.
func (m *Machine) RulesReading(table int) (told []string) {
	for f := range config.Families {
		rules, err := listRules(m.NS, f)
		if err != nil {
			continue // ensurePlace reports the error
		}
		for _, r := range rules {
			if r.Table == table && !isOurs(r) {
				told = append(told, fmt.Sprintf("a routing rule%s of priority %d (%s)", ofFamily[f], r.Priority, ruleCommand[f]))
			}
		}
	}
	return told
}

var (
	ofFamily    = [config.Families]string{"", " of IPv6"}
	ruleCommand = [config.Families]string{"ip rule", "ip -6 rule"}
)

// HasRules tells whether a rule of ours stands in a family.
func (m *Machine) HasRules(f config.Family) bool {
	rules, err := listRules(m.NS, f)
	return err == nil && slices.ContainsFunc(rules, isOurs)
}

// listRules lists the rules of a family. A kernel without IPv6 has none.
func listRules(ns *Namespace, f config.Family) ([]netlink.Rule, error) {
	rules, err := RetryDump(func() ([]netlink.Rule, error) { return ns.Netlink.RuleList(netlinkFamily(f)) })
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the routing rules: %w", err)
	}
	return rules, nil
}

func removeRules(ns *Namespace, rules []netlink.Rule) error {
	for i := range rules {
		if err := ignoreMissing(ns.Netlink.RuleDel(&rules[i])); err != nil {
			return fmt.Errorf("removing a routing rule: %w", err)
		}
	}
	return nil
}

// removeStaleRules removes the rules whose tables have no route, because a killed process
// left them.
func removeStaleRules(ns *Namespace) error {
	for f := range config.Families {
		rules, err := listRules(ns, f)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if !isOurs(r) {
				continue
			}
			filter := &netlink.Route{Table: r.Table}
			routes, err := RetryDump(func() ([]netlink.Route, error) {
				return ns.Netlink.RouteListFiltered(netlinkFamily(f), filter, netlink.RT_FILTER_TABLE)
			})
			if err == nil && len(routes) == 0 {
				err = removeRules(ns, []netlink.Rule{r})
			}
			if err != nil {
				return fmt.Errorf("cleaning up after an earlier run: %w", err)
			}
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
