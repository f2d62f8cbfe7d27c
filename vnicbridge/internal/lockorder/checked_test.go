//go:build race

package lockorder

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestAnotherOrderPanics(t *testing.T) {
	var plane Mutex[Plane]
	var moving RWMutex[Moving]
	var hops RWMutex[NextHops]
	var claim Mutex[Claim]
	for _, tc := range []struct {
		name          string
		first, second sync.Locker
		says          string
	}{
		{"backwards", readLock{&moving}, &plane, "takes the plane's lock while it holds the forwarder's lock on moving flows"},
		{"two of one place", &claim, &hops, "takes the lock of a link's next hops while it holds the lock of a claim"},
		{"twice for reading", readLock{&moving}, readLock{&moving}, "takes the forwarder's lock on moving flows while it holds the forwarder's"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.first.Lock()
			if got := panicOf(tc.second.Lock); !strings.Contains(got, tc.says) {
				t.Errorf("the panic is %q, want one that says %q", got, tc.says)
			}
			tc.first.Unlock()
			tc.second.Lock()
			tc.second.Unlock()
		})
	}
}

func TestAnUnlockOfAnotherGoroutinePanics(t *testing.T) {
	var moving RWMutex[Moving]
	moving.RLock()
	var running sync.WaitGroup
	running.Go(func() {
		if got := panicOf(moving.RUnlock); !strings.Contains(got, "unlocks the forwarder's lock on moving flows, which it does not hold") {
			t.Errorf("the panic is %q", got)
		}
	})
	running.Wait()
}

// readLock takes a lock for reading.
type readLock struct{ *RWMutex[Moving] }

func (l readLock) Lock()   { l.RLock() }
func (l readLock) Unlock() { l.RUnlock() }

func panicOf(do func()) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	do()
	return ""
}
