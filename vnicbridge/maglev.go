package vnicbridge

// maglevSize is the number of slots, a prime. Maglev's own small table has 65,537
// (Eisenbud et al., NSDI 2016, §5.3), for up to a thousand backends; a server has
// a handful of segments, and the table must fit a kernel map of each bridge.
const maglevSize = 4093

// maglev fills a lookup table in which each candidate has its share of the slots. When a
// candidate comes or goes, few slots of the others change (NSDI 2016, §3.4). The
// permutations follow from the names, so the order in the configuration does not matter.
func maglev(pool []candidate) []*port {
	if len(pool) == 0 {
		return nil
	}
	slots := make([]*port, maglevSize)
	next := make([]uint64, len(pool))
	turns := interleave(pool)
	for filled := range maglevSize {
		i := turns[filled%len(turns)]
		slot := pool[i].slot(&next[i])
		for slots[slot] != nil {
			slot = pool[i].slot(&next[i])
		}
		slots[slot] = pool[i].port
	}
	return slots
}

// slot is the next slot in the candidate's permutation of all slots.
func (c candidate) slot(next *uint64) uint64 {
	offset := hashName("offset "+c.name) % maglevSize
	skip := hashName("skip "+c.name)%(maglevSize-1) + 1
	slot := (offset + *next*skip) % maglevSize
	*next++
	return slot
}
