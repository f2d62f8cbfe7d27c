package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/bpf"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// kernelRules is the ruleset in the programs' maps. The maps have two halves. set fills the
// half that is not in force, and then puts it in force. Rules that do not fit a map are left
// out, and userspace decides on their flows.
type kernelRules struct {
	maps  map[string]*ebpf.Map
	plane *PlaneState
	open  *rules.OpenPorts

	current *rules.Ruleset
	used    [2][]uint32 // the entries of each half that are not empty
	sets    uint32      // the last number of a set of prefixes
	Old     []prefixSet // that are no longer in force
	Live    []prefixSet
}

// prefixSet is a set of prefixes in the trie.
type prefixSet struct {
	number   uint32
	prefixes []netip.Prefix
}

// MaxBridges is how many decision tables a half has. Userspace decides for more bridges.
const MaxBridges = 32

func (k *kernelRules) set(r *rules.Ruleset) error {
	if r == nil {
		return nil
	}
	k.current = r
	k.Old = append(k.Old, k.Live...)
	k.Live = nil
	half := 1 - k.plane.half.Load()&1
	err := k.fill(half, r)
	if err != nil {
		_ = k.Empty(half)
	}
	// Both halves use the key. If it changes, a flow that begins at this moment may get a
	// segment or an alias that neither key gives, and keeps it.
	k.plane.hashKey = [2]uint64{r.Key.K0, r.Key.K1}
	k.plane.half.Store(half)
	return err
}

// Empty removes all rules of a half, so that userspace decides on every new flow.
func (k *kernelRules) Empty(half uint32) error {
	var errs []error
	for _, index := range k.used[half] {
		errs = append(errs,
			k.maps[bpf.BridgeMapBridges].Put(index, bpf.BridgeRules{}),
			k.maps[bpf.BridgeMapSegments].Put(index, bpf.SegmentRules{}),
			k.maps[bpf.BridgeMapWideSegments].Put(index, bpf.WideSegmentRules{}))
	}
	k.used[half] = nil
	return errors.Join(errs...)
}

func (k *kernelRules) fill(half uint32, r *rules.Ruleset) error {
	if err := k.Empty(half); err != nil {
		return err
	}
	impossible, err := k.addSet(r.Impossible)
	if err != nil {
		return err
	}
	entry := func(p *iface.Iface) uint32 {
		index := half*bpf.MaxIfaces + p.Index
		k.used[half] = append(k.used[half], index)
		return index
	}
	table := half * MaxBridges
	for nic, b := range r.Bridges {
		rules, err := k.bridge(b, table, table < (half+1)*MaxBridges)
		if err != nil {
			return err
		}
		if err := k.maps[bpf.BridgeMapBridges].Put(entry(nic), rules); err != nil {
			return fmt.Errorf("writing the rules of NIC %s: %w", nic.Name, err)
		}
		table++
	}
	for vnic, s := range r.Segments {
		index := entry(vnic)
		if vnic.Family == config.IPv6 {
			err = k.maps[bpf.BridgeMapWideSegments].Put(index, k.wideSegment(vnic, s))
		} else {
			err = k.maps[bpf.BridgeMapSegments].Put(index, k.segment(vnic, s))
		}
		if err != nil {
			return fmt.Errorf("writing the rules of VNIC %s: %w", vnic.Name, err)
		}
	}
	k.plane.impossible.Store(impossible)
	return nil
}

func (k *kernelRules) bridge(b *rules.BridgeRules, table uint32, room bool) (rules bpf.BridgeRules, err error) {
	d := b.Decisions
	var t bpf.DecisionTable
	steers, err := k.steers(d.Rules)
	if err != nil {
		return rules, err
	}
	if !room || len(steers) > len(t.Steer) || len(d.Slots) > len(t.Slots) || len(d.Weights) > len(t.Weights) {
		return rules, nil
	}
	copy(t.Steer[:], steers)
	for i, segment := range d.Slots {
		t.Slots[i] = uint16(segment.Index)
	}
	for i, w := range d.Weights {
		t.Weights[i] = uint32(w)
	}
	if err := k.maps[bpf.BridgeMapTables].Put(table, &t); err != nil {
		return rules, fmt.Errorf("writing a decision table: %w", err)
	}
	rules = bpf.BridgeRules{
		Live: 1, Table: table, Steers: uint16(len(steers)), Slots: uint16(len(d.Slots)), Index: uint32(d.Index),
	}
	if b.Refuse == config.Drop {
		rules.Silent = 1
	}
	if !b.Gateway.IsIPv6() && b.Gateway != packet.NoAddr {
		rules.Gateway = packet.BE32(b.Gateway)
	}
	return rules, nil
}

// steers returns the entries of the steer rules: one for each protocol and each range of
// ports of each rule.
func (k *kernelRules) steers(rules []rules.SteerRule) (entries []bpf.Steer, err error) {
	for _, r := range rules {
		var e bpf.Steer
		if len(r.Clients) > 0 {
			if e.Clients, err = k.addSet(r.Clients); err != nil {
				return nil, err
			}
		}
		if r.Segment != nil {
			e.Segment = uint16(r.Segment.Index)
		}
		if r.Names != nil {
			e.Named = 1
		}
		for _, proto := range orAny(r.Protocols) {
			for _, ports := range orAny(r.Ports) {
				e.Proto = uint8(proto)
				e.Ports, e.ByPort = rangeOf(ports), 0
				if len(r.Ports) > 0 {
					e.ByPort = 1
				}
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

// orAny returns a list, or one zero value, which stands for any, if the list is empty.
func orAny[T any](list []T) []T {
	if len(list) == 0 {
		return make([]T, 1)
	}
	return list
}

func rangeOf(r config.PortRange) bpf.PortRange {
	return bpf.PortRange{First: r.First, Last: r.Last, Proto: uint8(r.Protocol)}
}

// addSet puts prefixes into the trie under a new number.
func (k *kernelRules) addSet(prefixes []netip.Prefix) (uint32, error) {
	k.sets++
	set := prefixSet{number: k.sets}
	for _, p := range prefixes {
		m, key := k.entryOf(set, p)
		if err := m.Put(key, uint32(1)); err != nil {
			return 0, fmt.Errorf("writing the prefix %s: %w", p, err)
		}
		set.prefixes = append(set.prefixes, p)
	}
	k.Live = append(k.Live, set)
	return set.number, nil
}

// Deny denies a network at a NIC, or no longer does (S7).
func (k *kernelRules) Deny(nic *iface.Iface, network netip.Prefix, denied bool) error {
	m, key := k.entryOf(prefixSet{number: bpf.DeniedAt | nic.Index}, network)
	if !denied {
		return m.Delete(key)
	}
	if err := m.Put(key, uint32(1)); err != nil {
		return fmt.Errorf("denying %s at NIC %s on the kernel data path: %w", network, nic.Name, err)
	}
	return nil
}

// entryOf returns the trie that has a prefix of a set, and its key there.
func (k *kernelRules) entryOf(s prefixSet, p netip.Prefix) (m *ebpf.Map, key any) {
	length, address := 32+uint32(p.Bits()), packet.AddrOf(p.Addr())
	if p.Addr().Is6() {
		return k.maps[bpf.BridgeMapWidePrefixes], bpf.WidePrefixKey{Length: length, Set: s.number, Address: packet.Halves(address)}
	}
	return k.maps[bpf.BridgeMapPrefixes], bpf.PrefixKey{Length: length, Set: s.number, Address: packet.BE32(address)}
}

// Tidy removes the sets that are no longer in force. Tick calls it after they were replaced,
// when no program that runs can still look at them.
func (k *kernelRules) Tidy() {
	for _, set := range k.Old {
		for _, p := range set.prefixes {
			m, key := k.entryOf(set, p)
			_ = m.Delete(key)
		}
	}
	k.Old = nil
}

// portsOf returns the ports that a segment opens.
func (k *kernelRules) portsOf(vnic *iface.Iface, s *rules.SegmentRules) []config.PortRange {
	if s.Ports != nil {
		return s.Ports
	}
	return k.open.List(vnic.VNIC.Segment)
}

// wideSegment returns the rules of a segment for IPv6. If its network is so small that it has a
// pool of aliases, userspace decides.
func (k *kernelRules) wideSegment(vnic *iface.Iface, s *rules.SegmentRules) (rules bpf.WideSegmentRules) {
	ports := k.portsOf(vnic, s)
	network := s.Aliases.Network()
	if !config.DerivesAliases(network) || len(ports) > len(rules.Range) || len(s.Gateways) > len(rules.Gateway) || len(s.Reach) > len(rules.Peer) {
		return rules
	}
	rules = bpf.WideSegmentRules{
		Live: 1, Address: packet.Halves(vnic.VNIC.Address), Network: packet.Halves(packet.AddrOf(network.Addr()))[0],
		Egress: EgressNumbers[s.Egress], Ranges: uint32(len(ports)), Gateways: uint32(len(s.Gateways)),
	}
	if s.Preserve {
		rules.Preserve = 1
	}
	for i, p := range ports {
		rules.Range[i] = rangeOf(p)
	}
	for i, nic := range s.Gateways {
		rules.Gateway[i], rules.Alias[i] = nic.Index, packet.Halves(s.Aliases.Addrs[i])
	}
	for here, peer := range s.Reach {
		rules.Peer[rules.Peers] = bpf.WidePeer{Here: packet.Halves(here), There: packet.Halves(peer.Alias), To: peer.To.Index}
		rules.Peers++
	}
	return rules
}

func (k *kernelRules) segment(vnic *iface.Iface, s *rules.SegmentRules) (rules bpf.SegmentRules) {
	ports := k.portsOf(vnic, s)
	first, gaps, ok := rowOf(s.Aliases.Addrs, len(rules.Gap))
	if !ok || len(ports) > len(rules.Range) || len(s.Gateways) > len(rules.Gateway) || len(s.Reach) > len(rules.Peer) {
		return rules
	}
	rules = bpf.SegmentRules{
		Live: 1, Address: packet.BE32(vnic.VNIC.Address), FirstAlias: first, Aliases: uint32(len(s.Aliases.Addrs)),
		Egress: EgressNumbers[s.Egress],
		Gaps:   uint32(len(gaps)), Ranges: uint32(len(ports)), Gateways: uint32(len(s.Gateways)),
	}
	if s.Preserve {
		rules.Preserve = 1
	}
	copy(rules.Gap[:], gaps)
	for i, p := range ports {
		rules.Range[i] = rangeOf(p)
	}
	for i, nic := range s.Gateways {
		rules.Gateway[i] = nic.Index
	}
	for here, peer := range s.Reach {
		rules.Peer[rules.Peers] = bpf.Peer{Here: packet.BE32(here), There: packet.BE32(peer.Alias), To: peer.To.Index}
		rules.Peers++
	}
	return rules
}

// EgressNumbers are the programs' numbers for where a segment may open flows to.
var EgressNumbers = map[config.Egress]uint32{config.EgressOff: 0, config.EgressGateway: 1, config.EgressAny: 2}

// rowOf describes ascending addresses as a first one, a count and the missing ones in between
// (gaps). ok is false if the addresses do not ascend, or if there are more than maxGaps gaps.
func rowOf(addrs []packet.Addr, maxGaps int) (first uint32, gaps []uint32, ok bool) {
	if len(addrs) == 0 {
		return 0, nil, true
	}
	first = hostOrder(addrs[0])
	next := first
	for _, a := range addrs {
		for ; next < hostOrder(a); next++ {
			if gaps = append(gaps, next); len(gaps) > maxGaps {
				return 0, nil, false
			}
		}
		if next != hostOrder(a) {
			return 0, nil, false
		}
		next++
	}
	return first, gaps, true
}

func hostOrder(a packet.Addr) uint32 {
	b := a.V4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
