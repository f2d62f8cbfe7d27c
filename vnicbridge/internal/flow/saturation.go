package flow

import (
	"iter"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// saturation remembers for which tuples no alias was free lately, so that in a flood
// of such flows not each of them looks for one in the whole pool (A5).
type saturation map[Key]saturated // by the reply key, without its alias

type saturated struct {
	tick  uint32 // of the coarse clock, when it was so last
	flows int
}

const (
	SaturationFlood = 64   // flows are one
	saturationTicks = 4    // a quarter of a second: for so long it is true
	maxSaturated    = 1024 // tuples
)

// anyAlias is the key of the answers to a flow from the network, but for the alias.
func anyAlias(f *Flow) Key {
	return Key{packet.Tuple{Src: f.Out.VNIC.Address, Sport: f.Orig.Dport, Dport: f.Orig.Sport, Proto: f.Orig.Proto}, f.Out.Index}
}

// add takes note of a flow that was opened, if its port was changed because no alias
// was free. It tells whether there is a flood of them.
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

// skip leaves of the candidates for a new flow's reply tuple those out that are known
// to be taken: the other aliases than the first, with the flow's own port.
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
