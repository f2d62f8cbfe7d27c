package main

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// placement says on which cores the two ends of a round trip run. On one core
// the time is that of the path alone; on two there is also the waking of another
// core, as between two machines. Left to the scheduler it changes between the two
// from one second to the next.
type placement struct{ client, server core }

// core is a number, from 1, among the cores that this program may use; 0 is
// whichever the scheduler chooses.
type core byte

var (
	anywhere = placement{}
	together = placement{1, 1}
	apart    = placement{1, 2}
)

// ownCores are the cores that this program may use.
var ownCores = sync.OnceValues(func() (set unix.CPUSet, err error) {
	return set, unix.SchedGetaffinity(unix.Getpid(), &set) // the main thread, which is never moved
})

// moveTo has the calling thread, to which its goroutine must be locked, run on a
// core.
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
