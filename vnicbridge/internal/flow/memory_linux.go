package flow

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// setAside returns memory that is zero, and that takes pages of the machine's only where
// it is touched. freeWith gives it back when nobody has the table any more.
func setAside(size int) (pages []byte, freeWith func(*Table)) {
	pages, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return make([]byte, size), func(*Table) {}
	}
	return pages, func(t *Table) {
		runtime.AddCleanup(t, func(pages []byte) { _ = unix.Munmap(pages) }, pages)
	}
}
