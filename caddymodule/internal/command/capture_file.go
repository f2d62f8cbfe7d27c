package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// createCaptureFile opens the file for a capture. Only its owner can read the file, because
// packets are private. An existing file is emptied.
func createCaptureFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // O_EXCL follows no link
	if errors.Is(err, fs.ErrExist) {
		return openCaptureFile(path)
	}
	return file, err
}

// openCaptureFile opens what exists at a path. It does not follow a link, because another
// user may have put the link there to let a capture overwrite another file.
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
		err = fmt.Errorf("somebody replaced %s during the check: try again", path)
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

// leadsToDescriptor tells whether a link stands for an open file. Such links are
// /dev/stdout, and /dev/fd/63, which a shell passes for >(command). Only the kernel and
// root make links in these directories.
func leadsToDescriptor(path string) bool {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return err == nil && (dir == "/dev" || strings.HasPrefix(dir, "/proc/"))
}
