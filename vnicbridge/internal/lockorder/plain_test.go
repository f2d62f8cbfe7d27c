//go:build !race

package lockorder

import "sync"

// A normal build has the locks of package sync themselves.
var (
	_ *sync.Mutex   = (*Mutex[Plane])(nil)
	_ *sync.RWMutex = (*RWMutex[Moving])(nil)
)
