package lockorder

import (
	"sync"
	"testing"
)

// Locks that are taken in their order, and unlocked in any, lock as those of package sync.
func TestTheOrderPasses(t *testing.T) {
	var plane Mutex[Plane]
	var moving RWMutex[Moving]
	var table Mutex[FlowTable]
	var hops RWMutex[NextHops]
	var log Mutex[Log]
	counted := 0
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			looked := 0
			for looked < 100 {
				moving.RLock()
				hops.RLock()
				looked++
				hops.RUnlock()
				table.Lock()
				log.Lock()
				table.Unlock()
				log.Unlock()
				moving.RUnlock()

				plane.Lock()
				moving.Lock()
				counted++
				plane.Unlock()
				moving.Unlock()
			}
		})
	}
	running.Wait()
	if counted != 8*100 {
		t.Errorf("counted to %d", counted)
	}
}
