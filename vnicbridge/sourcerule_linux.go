package vnicbridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A segment that answers addresses beyond its own network (client_ip preserve)
// has a routing table of its own, chosen by its source address: a default route
// by the gateway's alias (A6). The rule outlives device and process; ours carry a
// protocol number by which the next start finds what a killed process left.
const (
	rulePriority = 7660
	ruleProtocol = 76         // not in /etc/iproute2/rt_protos
	ruleTables   = 0x76630000 // the device's index is added
)

func (v *vnicSetup) table() int { return ruleTables + v.ifindex }

func (v *vnicSetup) rule() *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family = netlink.FAMILY_V4
	rule.Priority, rule.Protocol, rule.Table = rulePriority, ruleProtocol, v.table()
	rule.Src = &net.IPNet{IP: v.spec.address.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}
	return rule
}

// ensureRule keeps the rule and its table's route, or their absence.
func (v *vnicSetup) ensureRule(want vnicSettings) (changed bool, err error) {
	if !want.via.IsValid() {
		err := v.ns.netlink.RuleDel(v.rule())
		return err == nil, ignoreMissing(err)
	}
	if err := v.dropStaleRoute(want, v.defaultRoute); err != nil {
		return false, err
	}
	route, err := added(v.ns.netlink.RouteAddEcmp(v.defaultRoute(want.via))) // before any other
	if err != nil {
		return false, err
	}
	rule, err := added(v.ns.netlink.RuleAdd(v.rule()))
	return route || rule, err
}

// dropStaleRoute removes a route by the gateway's alias if that was another one before.
func (v *vnicSetup) dropStaleRoute(want vnicSettings, route func(via netip.Addr) *netlink.Route) error {
	before := v.set.via
	if !before.IsValid() || before == want.via {
		return nil
	}
	return ignoreMissing(v.ns.netlink.RouteDel(route(before)))
}

// defaultRoute is the route of the rule's table.
func (v *vnicSetup) defaultRoute(via netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: v.ifindex, Table: v.table(), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
}

// removeRule removes the rule, if it stands; the table's route goes with the
// device.
func (v *vnicSetup) removeRule() error { return ignoreMissing(v.ns.netlink.RuleDel(v.rule())) }

// ownRules are the rules of this program, of this process or another.
func ownRules(ns *namespace) (own []netlink.Rule, err error) {
	rules, err := retryDump(func() ([]netlink.Rule, error) { return ns.netlink.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("listing the routing rules: %w", err)
	}
	for _, r := range rules {
		if r.Priority == rulePriority && r.Protocol == ruleProtocol {
			own = append(own, r)
		}
	}
	return own, nil
}

// removeStaleRules removes the rules whose device is gone: a killed process left
// them.
func removeStaleRules(ns *namespace) error {
	rules, err := ownRules(ns)
	if err != nil {
		return err
	}
	for i := range rules {
		if _, err := ns.netlink.LinkByIndex(rules[i].Table - ruleTables); err == nil {
			continue
		}
		if err := ignoreMissing(ns.netlink.RuleDel(&rules[i])); err != nil {
			return fmt.Errorf("removing a routing rule of an earlier run: %w", err)
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
