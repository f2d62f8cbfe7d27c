package flow

import (
	"iter"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// saturation remembers for which reply keys no alias was free lately. So in a flood of such
// flows, not every flow searches the whole pool of aliases (A5).
type saturation map[Key]saturated // by the reply key without its alias

type saturated struct {
	tick  uint32 // of the coarse clock, when a flow last found no free alias
	flows int    // how many found none
}

const (
	SaturationFlood = 64   // flows without a free alias count as a flood
	saturationTicks = 4    // about 250 ms, after which the count begins again
	maxSaturated    = 1024 // keys; beyond it all are forgotten
)

// anyAlias returns the reply key of a flow from the network, without the alias.
func anyAlias(f *Flow) Key {
	return Key{packet.Tuple{Src: f.Out.VNIC.Address, Sport: f.Orig.Dport, Dport: f.Orig.Sport, Proto: f.Orig.Proto}, f.Out.Index}
}

// add counts a flow that was opened, if its port was changed because no alias was free. It
// tells whether there is a flood of such flows.
func (s *saturation) add(f *Flow, now int64) bool {
	if f.In.NIC == nil || f.Reply.Dport == f.Orig.Sport {
		return false
	}
	if *s == nil || len(*s) >= maxSaturated {
		*s = make(saturation)
	}
	key := anyAlias(f)
	found := (*s)[key]
	if Coarse(now)-found.tick > saturationTicks {
		found.flows = 0
	}
	found.tick, found.flows = Coarse(now), found.flows+1
	(*s)[key] = found
	return found.flows >= SaturationFlood
}

// skip returns the candidates for a new flow's reply tuple without those that are known to
// be taken. In a flood these are the flow's own port with every alias except the first.
func (s saturation) skip(f *Flow, candidates iter.Seq[packet.Tuple], now int64) iter.Seq[packet.Tuple] {
	if len(s) == 0 || f.In.NIC == nil {
		return candidates
	}
	found := s[anyAlias(f)]
	if found.flows < SaturationFlood || Coarse(now)-found.tick > saturationTicks {
		return candidates
	}
	return func(yield func(packet.Tuple) bool) {
		first := true
		for t := range candidates {
			if (first || t.Dport != f.Orig.Sport) && !yield(t) {
				return
			}
			first = false
		}
	}
}
