// Package succession lets a process take over from its predecessor: it brings open files and
// messages from one to the other by a Unix socket.
package succession

import (
	"errors"
	"os"
)

// Files are open files by name. Both processes have the same open file description, so what one
// has not read from a file waits there for the other.
type Files map[string]*os.File

// Take returns a file, which then belongs to the caller. It returns nil if there is none of that
// name.
func (f Files) Take(name string) *os.File {
	file := f[name]
	delete(f, name)
	return file
}

// Close closes the files that are left.
func (f Files) Close() error {
	var errs []error
	for name := range f {
		errs = append(errs, f.Take(name).Close())
	}
	return errors.Join(errs...)
}
