package vnicbridge

import (
	"errors"
	"fmt"
	"net"

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
	stands, err := v.ruleStands()
	if err != nil {
		return false, err
	}
	if !want.via.IsValid() {
		if stands {
			return true, v.removeRule()
		}
		return false, nil
	}
	if changed, err = v.ensureDefaultRoute(want); err != nil || stands {
		return changed, err
	}
	return true, v.ns.netlink.RuleAdd(v.rule())
}

func (v *vnicSetup) ensureDefaultRoute(want vnicSettings) (bool, error) {
	filter := &netlink.Route{Table: v.table()}
	routes, err := retryDump(func() ([]netlink.Route, error) {
		return v.ns.netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil || len(routes) == 1 && routes[0].Gw.Equal(net.IP(want.via.AsSlice())) {
		return false, err
	}
	return true, v.ns.netlink.RouteReplace(&netlink.Route{
		LinkIndex: v.ifindex, Table: v.table(), Gw: want.via.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	})
}

func (v *vnicSetup) ruleStands() (bool, error) {
	rules, err := ownRules(v.ns)
	for _, r := range rules {
		if r.Table == v.table() {
			return true, nil
		}
	}
	return false, err
}

// removeRule removes the rule, if it stands; the table's route goes with the
// device.
func (v *vnicSetup) removeRule() error {
	stands, err := v.ruleStands()
	if err != nil || !stands {
		return err
	}
	return ignoreMissing(v.ns.netlink.RuleDel(v.rule()))
}

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
