package checkup

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
)

// packetFilter reports chains of the host that may drop or redirect packets between a VNIC
// and the server behind it. Those of iptables-nft are among them.
func (c *checkup) packetFilter(ns *host.Namespace) {
	conn, err := nftables.New(nftables.WithNetNSFd(ns.FD()))
	if err != nil {
		c.warn("the packet filter could not be looked at: %v", err)
		return
	}
	chains, err := conn.ListChains()
	switch {
	case errors.Is(err, unix.EPERM):
		c.note("the packet filter was not looked at, because CAP_NET_ADMIN is missing: run the check as root to see it")
	case err != nil:
		c.error(errors.New("nf_tables is not there (" + err.Error() + "): modprobe nf_tables"))
	}
	for _, chain := range chains {
		c.chain(conn, chain)
	}
	for f, program := range [config.Families]string{"iptables", "ip6tables"} {
		file := [config.Families]string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"}[f]
		if names, err := os.ReadFile(file); err == nil && len(names) > 0 && c.hasSegment(config.Family(f)) {
			c.note("%s-legacy has tables (%s), which are not looked at: %s-legacy-save shows them", program, strings.Join(strings.Fields(string(names)), ", "), program)
		}
	}
}

// filterHooks are the hooks of the host's chains that packets of servers on VNICs pass.
var filterHooks = []struct {
	hook           *nftables.ChainHook
	passes, device string
}{
	{nftables.ChainHookPrerouting, "comes in by a VNIC", "iifname"},
	{nftables.ChainHookInput, "comes in by a VNIC", "iifname"},
	{nftables.ChainHookOutput, "a server answers by a VNIC", "oifname"},
	{nftables.ChainHookPostrouting, "a server answers by a VNIC", "oifname"},
}

// drops says how a chain drops packets that none of its rules accepts: by its policy, or by a
// last rule for all packets, as firewalld's chains do. It is empty if the chain drops none.
func drops(conn *nftables.Conn, chain *nftables.Chain) string {
	if chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop {
		return "by default"
	}
	rules, err := conn.GetRules(chain.Table, chain)
	if err != nil {
		return "" // somebody removed the chain meanwhile
	}
	if slices.ContainsFunc(rules, dropsAll) {
		return "what its other rules leave"
	}
	return ""
}

// dropsAll tells whether a rule drops or rejects every packet that reaches it.
func dropsAll(rule *nftables.Rule) (drops bool) {
	for _, e := range rule.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			drops = true
		case *expr.Verdict:
			drops = e.Kind == expr.VerdictDrop
		case *expr.Target: // of iptables-nft
			drops = e.Name == "REJECT" || e.Name == "DROP"
		default:
			return false // the rule matches some packets only
		}
	}
	return drops
}

// chain reports what a chain of the host does to packets of VNICs.
func (c *checkup) chain(conn *nftables.Conn, chain *nftables.Chain) {
	passed := familyNames[chain.Table.Family] != "" && (chain.Table.Family != nftables.TableFamilyIPv6 || c.hasSegment(config.IPv6))
	if !passed || strings.HasPrefix(chain.Table.Name, host.GuardPrefix) {
		return
	}
	for _, at := range filterHooks {
		if chain.Hooknum == nil || *chain.Hooknum != *at.hook {
			continue
		}
		if how := drops(conn, chain); how != "" {
			c.warn("the packet filter's chain %s drops %s, and what %s passes it: unless a rule accepts that, add one (nft insert rule %s %s %q accept)",
				pathOf(chain), how, at.passes, pathOf(chain), at.device, c.vnicPattern())
		}
	}
	// Docker's published ports, for one.
	if rewritesDestinations(conn, chain) {
		c.warn("the packet filter's chain %s rewrites destinations, and what comes in by a VNIC passes it: if a rule of it matches a segment's port, the server does not see the packet (nft list chain %s)", pathOf(chain), pathOf(chain))
	}
}

// familyNames are the families of tables that packets of segments pass.
var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
}

func pathOf(chain *nftables.Chain) string {
	return familyNames[chain.Table.Family] + " " + chain.Table.Name + " " + chain.Name
}

func rewritesDestinations(conn *nftables.Conn, chain *nftables.Chain) bool {
	rules, err := conn.GetRules(chain.Table, chain)
	if err != nil {
		return false // somebody removed the chain meanwhile
	}
	for _, rule := range rules {
		for _, e := range rule.Exprs {
			switch e := e.(type) {
			case *expr.Redir:
				return true
			case *expr.NAT:
				if e.Type == expr.NATTypeDestNAT {
					return true
				}
			case *expr.Target: // of iptables-nft
				if e.Name == "DNAT" || e.Name == "REDIRECT" {
					return true
				}
			}
		}
	}
	return false
}

// vnicPattern matches the VNICs' names in an nftables rule. If they have no prefix in common,
// it is a placeholder.
func (c *checkup) vnicPattern() string {
	for _, name := range config.SortedKeys(c.cfg.Segments) {
		if !strings.HasPrefix(c.cfg.Segments[name].InterfaceName(name), "vnic-") {
			return "<VNIC>"
		}
	}
	return "vnic-*"
}
