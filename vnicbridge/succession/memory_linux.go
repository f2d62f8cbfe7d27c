package succession

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Memory returns a file that is only in memory and has the given content, to be read from its
// start.
func Memory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making the file %s in memory: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err = file.WriteAt(content, 0); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
