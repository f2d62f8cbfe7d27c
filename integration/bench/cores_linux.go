package main

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// placement says on which cores the two ends of a round trip run. If both run on one core,
// the time is that of the path alone. If they run on two, it includes waking the other core,
// as between two machines. If the scheduler places them, the time jumps between these two
// from one second to the next.
type placement struct{ client, server core }

// core numbers, from 1, the cores that this program may use; 0 leaves the choice to the
// scheduler.
type core byte

var (
	anywhere = placement{}
	together = placement{1, 1}
	apart    = placement{1, 2}
)

// ownCores are the cores that this program may use.
var ownCores = sync.OnceValues(func() (set unix.CPUSet, err error) {
	return set, unix.SchedGetaffinity(unix.Getpid(), &set) // of the main thread, which never moves
})

// moveTo makes the calling thread run on a core. The goroutine must be locked to the thread.
func moveTo(c core) error {
	own, err := ownCores()
	if err != nil {
		return err
	}
	to := own
	if c != 0 {
		to.Zero()
		for cpu, left := 0, c; left > 0; cpu++ {
			if cpu >= len(own)*64 {
				return fmt.Errorf("core %d of %d", c, own.Count())
			}
			if own.IsSet(cpu) {
				if left--; left == 0 {
					to.Set(cpu)
				}
			}
		}
	}
	return unix.SchedSetaffinity(0, &to)
}
