package iface

// Numbers gives the devices in their places their numbers ([Iface.Index]).
type Numbers struct {
	used [Max]bool
	last uint32
}

// Take gives a number that is free, and that was given before as long ago as can be. ok is
// false if there is none.
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

// Free lets a number be given again.
func (n *Numbers) Free(number uint32) { n.used[number] = false }
