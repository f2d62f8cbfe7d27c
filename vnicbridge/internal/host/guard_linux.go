package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// GuardPrefix begins the names of our nftables tables. The process's token follows, so
// that two instances on one host use different tables.
const GuardPrefix = "caddy-vnic-"

// arpIn is NF_ARP_IN (include/uapi/linux/netfilter_arp.h).
var arpIn nftables.ChainHook

// guardTable keeps the host's kernel from acting on packets that belong to bridges and
// segments (A1, S4). Without the table, Linux answers ARP for a VNIC's address on every
// interface, accepts packets for that address from every interface, and may forward or
// answer packets for a pseudo address.
type guardTable struct {
	conn    *nftables.Conn
	arp, ip *nftables.Table
}

func newGuardTable(ns *Namespace, owner ownership) (*guardTable, error) {
	var raw *netlink.Conn
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(ns.FD()),
		nftables.WithSockOptions(func(c *netlink.Conn) error { raw = c; return nil }))
	if err != nil {
		return nil, fmt.Errorf("opening nftables: %w", err)
	}
	name := GuardPrefix + owner.token
	g := &guardTable{
		conn: conn,
		arp:  &nftables.Table{Name: name, Family: nftables.TableFamilyARP},
		ip:   &nftables.Table{Name: name, Family: nftables.TableFamilyIPv4},
	}
	err = g.removeLeftovers(ns)
	for _, table := range []*nftables.Table{g.arp, g.ip} {
		if err == nil {
			err = createOwnedTable(raw, table)
		}
	}
	if err != nil {
		_ = conn.CloseLasting()
		return nil, err
	}
	return g, nil
}

// removeLeftovers removes the tables of killed instances. They remain on kernels that do
// not know table owners.
func (g *guardTable) removeLeftovers(ns *Namespace) error {
	tables, err := g.conn.ListTables()
	if err != nil {
		return fmt.Errorf("listing the nftables tables (is the nf_tables module there? modprobe nf_tables): %w", err)
	}
	for _, t := range tables {
		if isStale(ns, t.Name, GuardPrefix) {
			g.conn.DelTable(t)
		}
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("removing the nftables tables of an earlier run: %w", err)
	}
	return nil
}

// replace replaces all rules in one transaction, so that no packet finds the table empty.
func (g *guardTable) replace(spec GuardSpec) error {
	g.conn.FlushTable(g.arp)
	g.conn.FlushTable(g.ip)
	g.guardARP(spec)
	if err := g.guardIP(spec); err != nil {
		return err
	}
	g.guardForward(spec)
	if err := g.guardSources(spec.VNICs); err != nil {
		return err
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("setting the nftables rules that keep the host's kernel off the VNICs: %w", err)
	}
	return nil
}

func (g *guardTable) remove() error {
	g.conn.DelTable(g.arp)
	g.conn.DelTable(g.ip)
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("removing the nftables rules: %w", err)
	}
	return g.conn.CloseLasting()
}

// guardARP keeps ARP requests for a segment's network or a pseudo address from the host. The
// bridge answers for a pseudo address. Nobody answers for a segment's network.
func (g *guardTable) guardARP(spec GuardSpec) {
	chain := g.conn.AddChain(&nftables.Chain{
		Name: "input", Table: g.arp, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookRef(arpIn), Priority: nftables.ChainPriorityFilter,
	})
	const targetOffset = 24 // of the target address in ARP for IPv4 (RFC 826)
	for _, v := range spec.VNICs {
		g.drop(chain, matchPrefix(targetOffset, v.Addresses[config.IPv4].Masked()))
		if v.Away {
			g.drop(chain, matchDevice(expr.MetaKeyIIF, expr.CmpOpEq, v.Index))
		}
	}
	for _, p := range spec.Pseudo {
		g.drop(chain, matchPrefix(targetOffset, netip.PrefixFrom(p, p.BitLen())))
	}
}

// guardIP lets packets for a segment's network in only by the segment's VNIC and from the
// host itself. It drops all packets for a pseudo address: the bridge's socket has seen those
// that came in by the NIC, and the host would forward those that came in elsewhere, or
// refuse them. It drops what comes out of a segment's own namespace, which only the bridge
// carries. It also drops packets with a source route of which the host is a hop: a segment's
// address could be the next hop, and would become the destination only after this chain (RFC
// 7126 §4.3 says that such packets should be dropped).
func (g *guardTable) guardIP(spec GuardSpec) error {
	chain := g.conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: g.ip, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	var here []int // VNICs in the host's namespace: nearly all packets come in by them
	for _, v := range spec.VNICs {
		if !v.Away {
			here = append(here, v.Index)
		}
	}
	if len(here) > 0 {
		if err := g.accept(chain, expr.MetaKeyIIF, here); err != nil {
			return err
		}
	}
	for _, v := range spec.VNICs {
		g.drop(chain, matchPrefix(destinationOffset, v.Addresses[config.IPv4].Masked()), matchDevice(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))
		if v.Away {
			g.drop(chain, matchDevice(expr.MetaKeyIIF, expr.CmpOpEq, v.Index))
		}
	}
	for _, p := range spec.Pseudo {
		g.drop(chain, matchPrefix(destinationOffset, netip.PrefixFrom(p, p.BitLen())))
	}
	for _, option := range []uint8{looseSourceRoute, strictSourceRoute} {
		g.drop(chain, matchOption(option), matchLocal(), matchDevice(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))
	}
	return nil
}

// guardForward keeps the networks of the bridges apart (S3), also if the host is a router
// and has addresses of its own on them.
func (g *guardTable) guardForward(spec GuardSpec) {
	chain := g.conn.AddChain(&nftables.Chain{
		Name: "forward", Table: g.ip, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	for _, from := range spec.NICs {
		for _, to := range spec.NICs {
			if from != to {
				g.drop(chain, matchDevice(expr.MetaKeyIIF, expr.CmpOpEq, from), matchDevice(expr.MetaKeyOIF, expr.CmpOpEq, to))
			}
		}
	}
}

// guardSources drops packets that have a VNIC's address as their source and leave by another
// interface, whatever routes and rules the host has (A6): an answer that would take another
// way is lost. Every packet that the host sends passes this chain, so its first rule accepts
// what leaves by a VNIC or by lo. The bridge drops what leaves by another segment's VNIC.
func (g *guardTable) guardSources(vnics []GuardedVNIC) error {
	if len(vnics) == 0 {
		return nil
	}
	chain := g.conn.AddChain(&nftables.Chain{
		Name: "postrouting", Table: g.ip, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRaw,
	})
	devices := []int{loopbackIndex}
	addresses := &nftables.Set{Table: g.ip, Anonymous: true, Constant: true, KeyType: nftables.TypeIPAddr}
	var elements []nftables.SetElement
	for _, v := range vnics {
		devices = append(devices, v.Index)
		elements = append(elements, nftables.SetElement{Key: v.Addresses[config.IPv4].Addr().AsSlice()})
	}
	if err := g.accept(chain, expr.MetaKeyOIF, devices); err != nil {
		return err
	}
	if err := g.conn.AddSet(addresses, elements); err != nil {
		return fmt.Errorf("a set of the VNICs' addresses for the nftables rules: %w", err)
	}
	g.drop(chain, []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: addresses.Name, SetID: addresses.ID},
	})
	return nil
}

// accept adds a rule that accepts packets that come in or leave by one of several devices, so
// that the chain's later rules do not see them.
func (g *guardTable) accept(chain *nftables.Chain, way expr.MetaKey, devices []int) error {
	set := &nftables.Set{Table: chain.Table, Anonymous: true, Constant: true, KeyType: nftables.TypeIFIndex}
	var elements []nftables.SetElement
	for _, index := range devices {
		elements = append(elements, nftables.SetElement{Key: binary.NativeEndian.AppendUint32(nil, uint32(index))})
	}
	if err := g.conn.AddSet(set, elements); err != nil {
		return fmt.Errorf("a set of devices for the nftables rules: %w", err)
	}
	g.conn.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: way, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}})
	return nil
}

// drop adds a rule that counts and drops the packets that fulfil all matches.
func (g *guardTable) drop(chain *nftables.Chain, matches ...[]expr.Any) {
	rule := &nftables.Rule{Table: chain.Table, Chain: chain}
	for _, m := range matches {
		rule.Exprs = append(rule.Exprs, m...)
	}
	rule.Exprs = append(rule.Exprs, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
	g.conn.AddRule(rule)
}

// Offsets of the addresses in an IPv4 header (RFC 791).
const sourceOffset, destinationOffset = 12, 16

// matchPrefix matches an address in the network header.
func matchPrefix(offset uint32, p netip.Prefix) []expr.Any {
	size := uint32(p.Addr().BitLen() / 8)
	mask := config.LastAddr(netip.PrefixFrom(netip.IPv4Unspecified(), p.Bits())).AsSlice()
	for i := range mask {
		mask[i] = ^mask[i]
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// The IP options that name the hops of a packet (RFC 791).
const looseSourceRoute, strictSourceRoute = 131, 137

// matchOption matches packets with an option of a type, as nft's "ip option ... exists"
// does (Linux 5.3; include/uapi/linux/netfilter/nf_tables.h).
func matchOption(option uint8) []expr.Any {
	const exthdrIPv4, present = 2, 1 // NFT_EXTHDR_OP_IPV4, NFT_EXTHDR_F_PRESENT
	return []expr.Any{
		&expr.Exthdr{DestRegister: 1, Op: exthdrIPv4, Type: option, Len: 1, Flags: present},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}},
	}
}

// matchLocal matches packets for an address of the host, as nft's "fib daddr type local"
// does.
func matchLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
}

// loopbackIndex is the index of lo, the first device of every namespace
// (LOOPBACK_IFINDEX in include/net/net_namespace.h).
const loopbackIndex = 1

// matchDevice matches the device by which a packet came in or goes out. It compares the
// index, because a name can change.
func matchDevice(which expr.MetaKey, op expr.CmpOp, device int) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: which, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, uint32(device))},
	}
}
