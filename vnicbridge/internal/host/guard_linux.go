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
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
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
//
// Linux answers Neighbor Solicitations only for addresses of the interface by which they came
// in, so IPv6 has no counterpart of the table for ARP.
type guardTable struct {
	conn *nftables.Conn
	raw  *netlink.Conn // of conn, for what package nftables cannot send
	arp  *nftables.Table
	ip   [config.Families]*nftables.Table
	made map[*nftables.Table]bool
}

func newGuardTable(ns *Namespace, owner ownership) (*guardTable, error) {
	name := GuardPrefix + owner.token
	g := &guardTable{
		arp: &nftables.Table{Name: name, Family: nftables.TableFamilyARP},
		ip: [config.Families]*nftables.Table{
			{Name: name, Family: nftables.TableFamilyIPv4}, {Name: name, Family: nftables.TableFamilyIPv6},
		},
		made: make(map[*nftables.Table]bool),
	}
	var err error
	g.conn, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(ns.FD()),
		nftables.WithSockOptions(func(c *netlink.Conn) error { g.raw = c; return nil }))
	if err != nil {
		return nil, fmt.Errorf("opening nftables: %w", err)
	}
	err = g.removeLeftovers(ns)
	for _, table := range []*nftables.Table{g.arp, g.ip[config.IPv4]} {
		if err == nil {
			err = g.make(table)
		}
	}
	if err != nil {
		_ = g.conn.CloseLasting()
		return nil, err
	}
	return g, nil
}

// make makes a table, if it is not made yet.
func (g *guardTable) make(table *nftables.Table) error {
	if g.made[table] {
		return nil
	}
	if err := createOwnedTable(g.raw, table); err != nil {
		return err
	}
	g.made[table] = true
	return nil
}

// removeLeftovers removes the tables of killed instances. They remain on kernels that do
// not know table owners. A table with an owner is not left over: it ends with its socket, which a
// service manager may keep for the next process.
func (g *guardTable) removeLeftovers(ns *Namespace) error {
	tables, err := g.conn.ListTables()
	if err != nil {
		return fmt.Errorf("listing the nftables tables (is the nf_tables module there? modprobe nf_tables): %w", err)
	}
	for _, t := range tables {
		if !isOwned(t) && isStale(ns, t.Name, GuardPrefix) {
			g.conn.DelTable(t)
		}
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("removing the nftables tables of an earlier run: %w", err)
	}
	return nil
}

// replace replaces all rules in one transaction, so that no packet finds a table empty. The
// table for IPv6 is made when the first device has an IPv6 address, because a host without
// IPv6 may have a kernel that cannot make it.
func (g *guardTable) replace(spec GuardSpec) error {
	if spec.has(config.IPv6) {
		if err := g.make(g.ip[config.IPv6]); err != nil {
			return err
		}
	}
	for table := range g.made {
		g.conn.FlushTable(table)
	}
	g.guardARP(spec)
	for f := range config.Families {
		if f == config.IPv6 && !spec.has(f) {
			continue
		}
		if err := g.guardIP(f, spec); err != nil {
			return err
		}
		g.guardForward(f, spec)
		if err := g.guardSources(f, spec.VNICs); err != nil {
			return err
		}
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("setting the nftables rules that keep the host's kernel off the VNICs: %w", err)
	}
	return nil
}

// guardFile is the name of the guard's socket at a service manager. The next process does not take
// it over, but it has a guard of its own before this one ends.
const guardFile = "guard"

// IsGuard tells whether a file keeps a guard.
func IsGuard(name string) bool { return name == guardFile }

// RemainingFiles returns the open file that keeps the guard when this process ends.
func (m *Machine) RemainingFiles() (succession.Files, error) {
	file, err := succession.Duplicate(m.wall.raw, guardFile)
	return succession.Files{guardFile: file}, err
}

func (g *guardTable) remove() error {
	for table := range g.made {
		g.conn.DelTable(table)
	}
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
		if own := v.Addresses[config.IPv4]; own.IsValid() {
			g.drop(chain, matchPrefix(targetOffset, own.Masked()))
		}
		if v.Away {
			g.drop(chain, matchDevice(expr.MetaKeyIIF, expr.CmpOpEq, v.Index))
		}
	}
	for _, p := range spec.pseudoOf(config.IPv4) {
		g.drop(chain, matchPrefix(targetOffset, netip.PrefixFrom(p, p.BitLen())))
	}
}

// guardIP lets packets for a segment's network in only by the segment's VNIC and from the
// host itself. It drops all packets for a pseudo address: the bridge's socket has seen those
// that came in by the NIC, and the host would forward those that came in elsewhere, or
// refuse them. It drops what comes out of a segment's own namespace, which only the bridge
// carries. It also drops packets with a source route of which the host is a hop: a segment's
// address could be the next hop, and would become the destination only after this chain (RFC
// 7126 §4.3 says that such packets should be dropped, RFC 5095 the same of IPv6).
func (g *guardTable) guardIP(f config.Family, spec GuardSpec) error {
	chain := g.conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: g.ip[f], Type: nftables.ChainTypeFilter,
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
		if own := v.Addresses[f]; own.IsValid() {
			g.drop(chain, matchPrefix(destinationOffset[f], own.Masked()), matchDevice(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))
		}
		if v.Away {
			g.drop(chain, matchDevice(expr.MetaKeyIIF, expr.CmpOpEq, v.Index))
		}
	}
	for _, p := range spec.pseudoOf(f) {
		g.drop(chain, matchPrefix(destinationOffset[f], netip.PrefixFrom(p, p.BitLen())))
	}
	for _, route := range sourceRoutes[f] {
		g.drop(chain, route, matchLocal(), matchDevice(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))
	}
	if f == config.IPv6 {
		g.guardLinkLocal(chain, spec.NICs)
	}
	return nil
}

// guardLinkLocal drops packets that come in by a NIC for a link-local address that is not the
// host's own there. The bridge's is such an address. A host that forwards would send such
// packets back to the link, with a redirect, or report that nobody has the address.
func (g *guardTable) guardLinkLocal(chain *nftables.Chain, nics []int) {
	for _, nic := range nics {
		g.drop(chain, matchDevice(expr.MetaKeyIIF, expr.CmpOpEq, nic), matchPrefix(destinationOffset[config.IPv6], linkLocal), matchNotOfDevice())
	}
}

var linkLocal = netip.MustParsePrefix("fe80::/10")

// guardForward keeps the networks of the bridges apart (S3), also if the host is a router
// and has addresses of its own on them.
func (g *guardTable) guardForward(f config.Family, spec GuardSpec) {
	chain := g.conn.AddChain(&nftables.Chain{
		Name: "forward", Table: g.ip[f], Type: nftables.ChainTypeFilter,
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
func (g *guardTable) guardSources(f config.Family, vnics []GuardedVNIC) error {
	devices := []int{loopbackIndex}
	addresses := &nftables.Set{Table: g.ip[f], Anonymous: true, Constant: true, KeyType: addressType[f]}
	var elements []nftables.SetElement
	for _, v := range vnics {
		devices = append(devices, v.Index)
		if own := v.Addresses[f]; own.IsValid() {
			elements = append(elements, nftables.SetElement{Key: own.Addr().AsSlice()})
		}
	}
	if len(elements) == 0 {
		return nil
	}
	chain := g.conn.AddChain(&nftables.Chain{
		Name: "postrouting", Table: g.ip[f], Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRaw,
	})
	if err := g.accept(chain, expr.MetaKeyOIF, devices); err != nil {
		return err
	}
	if err := g.conn.AddSet(addresses, elements); err != nil {
		return fmt.Errorf("a set of the VNICs' addresses for the nftables rules: %w", err)
	}
	g.drop(chain, []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset[f], Len: addressType[f].Bytes},
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

// Offsets of the addresses in the headers (RFC 791, RFC 8200), and their type.
var (
	sourceOffset      = [config.Families]uint32{12, 8}
	destinationOffset = [config.Families]uint32{16, 24}
	addressType       = [config.Families]nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr}
)

// matchPrefix matches an address in the network header.
func matchPrefix(offset uint32, p netip.Prefix) []expr.Any {
	size := uint32(p.Addr().BitLen() / 8)
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: IPNet(p).Mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// sourceRoutes match packets that name the hops by which they go: the two options of IPv4
// (RFC 791), and the routing header of IPv6, of any type (RFC 8200 §4.4).
var sourceRoutes = [config.Families][][]expr.Any{
	config.IPv4: {matchExtension(exthdrIPv4, looseSourceRoute), matchExtension(exthdrIPv4, strictSourceRoute)},
	config.IPv6: {matchExtension(exthdrIPv6, unix.IPPROTO_ROUTING)},
}

const looseSourceRoute, strictSourceRoute = 131, 137

// NFT_EXTHDR_OP_IPV6 and NFT_EXTHDR_OP_IPV4 (include/uapi/linux/netfilter/nf_tables.h).
const exthdrIPv6, exthdrIPv4 = 0, 2

// matchExtension matches packets with an IP option or an extension header of a type, as nft's
// "ip option ... exists" and "exthdr ... exists" do (Linux 5.3).
func matchExtension(op expr.ExthdrOp, kind uint8) []expr.Any {
	const present = 1 // NFT_EXTHDR_F_PRESENT
	return []expr.Any{
		&expr.Exthdr{DestRegister: 1, Op: op, Type: kind, Len: 1, Flags: present},
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

// matchNotOfDevice matches packets for an address that is not of the device by which they
// came in, as nft's "fib daddr . iif type != { local, anycast }" does.
func matchNotOfDevice() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, FlagIIF: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_ANYCAST)},
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
