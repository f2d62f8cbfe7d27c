package kernel

import "time"

// heartbeatInterval is well below the time after which programs stop (HEARTBEAT_NS in
// bridge.c).
const heartbeatInterval = 500 * time.Millisecond

// beat tells the programs of filters that this process lives. It has a goroutine of its
// own, so that nothing can delay it.
func (k *Path) beat() {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		k.Plane.heartbeat.Store(uint64(ProgramClock()))
		select {
		case <-k.done:
			return
		case <-ticker.C:
		}
	}
}
