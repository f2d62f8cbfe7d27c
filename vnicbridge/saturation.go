package vnicbridge

import "iter"

// saturation remembers for which tuples no alias was free lately, so that in a flood
// of such flows not each of them looks for one in the whole pool (A5).
type saturation map[flowKey]saturated // by the reply key, without its alias

type saturated struct {
	tick  uint32 // of the coarse clock, when it was so last
	flows int
}

const (
	saturationFlood = 64   // flows are one
	saturationTicks = 4    // a quarter of a second: for so long it is true
	maxSaturated    = 1024 // tuples
)

// anyAlias is the key of the answers to a flow from the network, but for the alias.
func anyAlias(f *flow) flowKey {
	return flowKey{tuple{src: f.out.vnic.address, sport: f.orig.dport, dport: f.orig.sport, proto: f.orig.proto}, f.out.index}
}

// add takes note of a flow that was opened, if its port was changed because no alias
// was free. It tells whether there is a flood of them.
func (s *saturation) add(f *flow, now int64) bool {
	if f.in.nic == nil || f.reply.dport == f.orig.sport {
		return false
	}
	if *s == nil || len(*s) >= maxSaturated {
		*s = make(saturation)
	}
	key := anyAlias(f)
	found := (*s)[key]
	if coarse(now)-found.tick > saturationTicks {
		found.flows = 0
	}
	found.tick, found.flows = coarse(now), found.flows+1
	(*s)[key] = found
	return found.flows >= saturationFlood
}

// skip leaves of the candidates for a new flow's reply tuple those out that are known
// to be taken: the other aliases than the first, with the flow's own port.
func (s saturation) skip(f *flow, candidates iter.Seq[tuple], now int64) iter.Seq[tuple] {
	if len(s) == 0 || f.in.nic == nil {
		return candidates
	}
	found := s[anyAlias(f)]
	if found.flows < saturationFlood || coarse(now)-found.tick > saturationTicks {
		return candidates
	}
	return func(yield func(tuple) bool) {
		first := true
		for t := range candidates {
			if (first || t.dport != f.orig.sport) && !yield(t) {
				return
			}
			first = false
		}
	}
}
