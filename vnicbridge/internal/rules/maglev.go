package rules

import (
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// maglevSize is the number of slots, a prime. The small table of the Maglev paper has
// 65,537 slots for up to a thousand backends (Eisenbud et al., NSDI 2016, §5.3). A server
// has a handful of segments, and each bridge has a table in a kernel map (MAX_SLOTS in
// bpf/types.h).
const maglevSize = 4093

// maglev fills a lookup table in which each candidate has its share of the slots. When a
// candidate comes or goes, few slots of the others change (NSDI 2016, §3.4). The
// permutations follow from the names, so the order in the configuration does not matter.
func maglev(pool []Candidate) []*iface.Iface {
	if len(pool) == 0 {
		return nil
	}
	slots := make([]*iface.Iface, maglevSize)
	next := make([]uint64, len(pool))
	turns := interleave(pool)
	for filled := range maglevSize {
		i := turns[filled%len(turns)]
		slot := pool[i].slot(&next[i])
		for slots[slot] != nil {
			slot = pool[i].slot(&next[i])
		}
		slots[slot] = pool[i].Iface
	}
	return slots
}

// slot returns the next slot in the candidate's permutation of all slots.
func (c Candidate) slot(next *uint64) uint64 {
	offset := config.HashName("offset "+c.Name) % maglevSize
	skip := config.HashName("skip "+c.Name)%(maglevSize-1) + 1
	slot := (offset + *next*skip) % maglevSize
	*next++
	return slot
}
