//go:build !race

package lockorder

import "sync"

// Mutex is a sync.Mutex of a kind. In a build with the race detector it checks the order.
type Mutex[L Lock] = sync.Mutex

// RWMutex is a sync.RWMutex of a kind. In a build with the race detector it checks the
// order, and that no goroutine takes it for reading twice: a writer that waits in between
// would stop both.
type RWMutex[L Lock] = sync.RWMutex
