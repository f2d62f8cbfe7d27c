//go:build !linux

package flow

// setAside returns zeroed memory, which is freed with the table.
func setAside(size int) (pages []byte, freeWith func(*Table)) {
	return make([]byte, size), func(*Table) {}
}
