package iface

// Numbers assigns the indexes of ifaces ([Iface.Index]). The zero value is ready to use. It
// has no lock.
type Numbers struct {
	used [Max]bool
	last uint32
}

// Take assigns a free number. It goes round all numbers before it uses one again, because
// flows of a former iface may still have its number. ok is false if no number is free.
func (n *Numbers) Take() (number uint32, ok bool) {
	for range Max {
		if n.last++; n.last >= Max {
			n.last = 1
		}
		if !n.used[n.last] {
			n.used[n.last] = true
			return n.last, true
		}
	}
	return 0, false
}

// Free makes a number available again.
func (n *Numbers) Free(number uint32) { n.used[number] = false }
