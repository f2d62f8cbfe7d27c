package vnicbridge

// numbers gives the devices in their places their numbers ([port.index]).
type numbers struct {
	used [maxPorts]bool
	last uint32
}

// take gives a number that is free, and that was given before as long ago as can be. ok is
// false if there is none.
func (n *numbers) take() (number uint32, ok bool) {
	for range maxPorts {
		if n.last++; n.last >= maxPorts {
			n.last = 1
		}
		if !n.used[n.last] {
			n.used[n.last] = true
			return n.last, true
		}
	}
	return 0, false
}

// free lets a number be given again.
func (n *numbers) free(number uint32) { n.used[number] = false }
