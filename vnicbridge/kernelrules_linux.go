package vnicbridge

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/bpf"
)

// kernelRules is the ruleset in the programs' maps. The maps have two halves: the one that
// is not in force is filled, then they change places. If rules do not fit a map, they are
// left out, and userspace decides.
type kernelRules struct {
	maps  map[string]*ebpf.Map
	plane *planeState
	open  *openPorts

	current *ruleset
	used    [2][]uint32 // the entries of each half that are not empty
	sets    uint32      // the last number of a set of prefixes
	old     []prefixSet // that are no longer in force
	live    []prefixSet
}

// prefixSet is a set of prefixes in the trie.
type prefixSet struct {
	number   uint32
	prefixes []netip.Prefix
}

// maxBridges is how many decision tables a half has.
const maxBridges = 32

func (k *kernelRules) set(r *ruleset) error {
	if r == nil {
		return nil
	}
	k.current = r
	k.old = append(k.old, k.live...)
	k.live = nil
	half := 1 - k.plane.half.Load()&1
	if err := k.fill(half, r); err != nil {
		_ = k.empty(half)
		k.plane.half.Store(half)
		return err
	}
	k.plane.half.Store(half)
	return nil
}

// empty leaves all of a half to userspace.
func (k *kernelRules) empty(half uint32) error {
	var errs []error
	for _, index := range k.used[half] {
		errs = append(errs, k.maps[bpf.BridgeMapBridges].Put(index, bpf.BridgeRules{}), k.maps[bpf.BridgeMapSegments].Put(index, bpf.SegmentRules{}))
	}
	k.used[half] = nil
	return errors.Join(errs...)
}

func (k *kernelRules) fill(half uint32, r *ruleset) error {
	if err := k.empty(half); err != nil {
		return err
	}
	impossible, err := k.addSet(r.impossible)
	if err != nil {
		return err
	}
	entry := func(p *port) uint32 {
		index := half*bpf.MaxPorts + p.index
		k.used[half] = append(k.used[half], index)
		return index
	}
	table := half * maxBridges
	for nic, b := range r.bridges {
		rules, err := k.bridge(b, table, table < (half+1)*maxBridges)
		if err != nil {
			return err
		}
		if err := k.maps[bpf.BridgeMapBridges].Put(entry(nic), rules); err != nil {
			return fmt.Errorf("writing the rules of NIC %s: %w", nic.name, err)
		}
		table++
	}
	for vnic, s := range r.segments {
		if err := k.maps[bpf.BridgeMapSegments].Put(entry(vnic), k.segment(vnic, s, r)); err != nil {
			return fmt.Errorf("writing the rules of VNIC %s: %w", vnic.name, err)
		}
	}
	k.plane.impossible.Store(impossible)
	return nil
}

func (k *kernelRules) bridge(b *bridgeRules, table uint32, room bool) (rules bpf.BridgeRules, err error) {
	d := b.decisions
	var t bpf.DecisionTable
	steers, err := k.steers(d.rules)
	if err != nil {
		return rules, err
	}
	if !room || len(steers) > len(t.Steer) || len(d.slots) > len(t.Slots) || len(d.weights) > len(t.Weights) {
		return rules, nil
	}
	copy(t.Steer[:], steers)
	for i, segment := range d.slots {
		t.Slots[i] = uint16(segment.index)
	}
	for i, w := range d.weights {
		t.Weights[i] = uint32(w)
	}
	if err := k.maps[bpf.BridgeMapTables].Put(table, &t); err != nil {
		return rules, fmt.Errorf("writing a decision table: %w", err)
	}
	rules = bpf.BridgeRules{
		Live: 1, Table: table, Steers: uint16(len(steers)), Slots: uint16(len(d.slots)), Index: uint32(d.index),
	}
	if b.refuse == Drop {
		rules.Silent = 1
	}
	if b.gateway != noAddr {
		rules.Gateway = be32(b.gateway)
	}
	return rules, nil
}

// steers makes an entry for each protocol and each range of ports of each rule.
func (k *kernelRules) steers(rules []steerRule) (entries []bpf.Steer, err error) {
	for _, r := range rules {
		var e bpf.Steer
		if len(r.clients) > 0 {
			if e.Clients, err = k.addSet(r.clients); err != nil {
				return nil, err
			}
		}
		if r.segment != nil {
			e.Segment = uint16(r.segment.index)
		}
		for _, proto := range orAny(r.protocols) {
			for _, ports := range orAny(r.ports) {
				e.Proto = uint8(proto)
				e.Ports, e.ByPort = rangeOf(ports), 0
				if len(r.ports) > 0 {
					e.ByPort = 1
				}
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

// orAny is a list, or the one zero value that stands for any.
func orAny[T any](list []T) []T {
	if len(list) == 0 {
		return make([]T, 1)
	}
	return list
}

func rangeOf(r PortRange) bpf.PortRange {
	return bpf.PortRange{First: r.First, Last: r.Last, Proto: uint8(r.Protocol)}
}

// addSet puts prefixes into the trie under a new number.
func (k *kernelRules) addSet(prefixes []netip.Prefix) (uint32, error) {
	k.sets++
	set := prefixSet{number: k.sets}
	for _, p := range prefixes {
		if !p.Addr().Is4() {
			continue
		}
		if err := k.maps[bpf.BridgeMapPrefixes].Put(set.key(p), uint32(1)); err != nil {
			return 0, fmt.Errorf("writing the prefix %s: %w", p, err)
		}
		set.prefixes = append(set.prefixes, p)
	}
	k.live = append(k.live, set)
	return set.number, nil
}

func (s prefixSet) key(p netip.Prefix) bpf.PrefixKey {
	return bpf.PrefixKey{Length: 32 + uint32(p.Bits()), Set: s.number, Address: be32(addrOf(p.Addr()))}
}

// tidy removes the sets that are no longer in force. It is called some time after they
// were replaced, when no program looks at them any more.
func (k *kernelRules) tidy() {
	for _, set := range k.old {
		for _, p := range set.prefixes {
			_ = k.maps[bpf.BridgeMapPrefixes].Delete(set.key(p))
		}
	}
	k.old = nil
}

func (k *kernelRules) segment(vnic *port, s *segmentRules, r *ruleset) (rules bpf.SegmentRules) {
	ports := s.ports
	if ports == nil {
		ports = k.open.list(vnic.vnic.segment)
	}
	first, gaps, ok := rowOf(s.aliases.addrs, len(rules.Gap))
	if !ok || len(ports) > len(rules.Range) || len(s.gateways) > len(rules.Gateway) || len(s.reach) > len(rules.Peer) {
		return rules
	}
	rules = bpf.SegmentRules{
		Live: 1, Address: be32(vnic.vnic.address), FirstAlias: first, Aliases: uint32(len(s.aliases.addrs)),
		Egress: egressNumbers[s.egress],
		Gaps:   uint32(len(gaps)), Ranges: uint32(len(ports)), Gateways: uint32(len(s.gateways)),
	}
	if s.preserve {
		rules.Preserve = 1
	}
	copy(rules.Gap[:], gaps)
	for i, p := range ports {
		rules.Range[i] = rangeOf(p)
	}
	for i, nic := range s.gateways {
		rules.Gateway[i] = nic.index
	}
	for here, peer := range s.reach {
		rules.Peer[rules.Peers] = bpf.Peer{Here: be32(here), There: be32(peer.alias), To: peer.to.index}
		rules.Peers++
	}
	return rules
}

var egressNumbers = map[Egress]uint32{EgressOff: 0, EgressGateway: 1, EgressAny: 2}

// rowOf describes addresses that are in a row, with some gaps. ok is false if they are not
// in a row, or with more than maxGaps gaps.
func rowOf(addrs []addr, maxGaps int) (first uint32, gaps []uint32, ok bool) {
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

func hostOrder(a addr) uint32 {
	b := a.v4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
