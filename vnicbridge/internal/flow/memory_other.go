//go:build !linux

package flow

// setAside returns memory that is zero.
func setAside(size int) (pages []byte, freeWith func(*Table)) {
	return make([]byte, size), func(*Table) {}
}
