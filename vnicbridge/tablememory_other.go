//go:build !linux

package vnicbridge

// setAside returns memory that is zero.
func setAside(size int) (pages []byte, freeWith func(*flowTable)) {
	return make([]byte, size), func(*flowTable) {}
}
