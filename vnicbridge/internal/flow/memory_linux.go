package flow

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// setAside returns zeroed memory outside the heap. The kernel provides pages only where the
// memory is touched. freeWith frees the memory when the table is garbage.
func setAside(size int) (pages []byte, freeWith func(*Table)) {
	pages, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return make([]byte, size), func(*Table) {}
	}
	return pages, func(t *Table) {
		runtime.AddCleanup(t, func(pages []byte) { _ = unix.Munmap(pages) }, pages)
	}
}
