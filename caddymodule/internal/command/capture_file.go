package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// createCaptureFile opens the file for a capture, which only its owner can read: packets
// are nobody else's business. A file that exists is emptied.
func createCaptureFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // O_EXCL follows no link
	if errors.Is(err, fs.ErrExist) {
		return openCaptureFile(path)
	}
	return file, err
}

// openCaptureFile opens what exists at a path. It follows no link that another user may
// have put there, lest a capture overwrites the file that the link leads to.
func openCaptureFile(path string) (*os.File, error) {
	named, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	switch kind := named.Mode().Type(); {
	case kind == fs.ModeSymlink && leadsToDescriptor(path):
		return os.OpenFile(path, os.O_WRONLY, 0)
	case kind == fs.ModeSymlink:
		return nil, fmt.Errorf("%s is a symbolic link, which a capture does not follow: name the file itself", path)
	case kind != 0 && kind&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0:
		return nil, fmt.Errorf("%s is neither a file nor a pipe: name another file", path)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	opened, err := file.Stat()
	if err == nil && !os.SameFile(named, opened) {
		err = fmt.Errorf("%s has been replaced meanwhile: try again", path)
	}
	if err == nil && opened.Mode().IsRegular() {
		err = errors.Join(file.Chmod(0o600), file.Truncate(0))
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// leadsToDescriptor tells whether a link is one of those that stand for an open file, as
// /dev/stdout does, and as /dev/fd/63, which a shell makes of >(command). Only the kernel
// and root make links there.
func leadsToDescriptor(path string) bool {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return err == nil && (dir == "/dev" || strings.HasPrefix(dir, "/proc/"))
}
