package elector

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// reopenPause is how soon a FIFO is looked at again that nobody writes to. Nothing tells a reader
// that a writer comes.
const reopenPause = 5 * time.Millisecond

// Follow reads the lines of a FIFO until stop is closed, and does nothing else meanwhile, because
// keepalived drops lines for which the FIFO has no room. gone is called when nobody writes to the
// FIFO any more. A FIFO that somebody has replaced or removed is opened, or made, again.
func Follow(path string, heard func(line string), gone func(), stop <-chan struct{}) {
	var file *os.File
	for {
		next, err := openFIFO(path)
		// The FIFO before is closed only now. Otherwise its lines would be lost if its writer
		// opened it again between the two.
		if file != nil {
			_ = file.Close()
		}
		file = next
		if err == nil {
			read(file, heard, gone, stop)
		}
		select {
		case <-stop:
			if file != nil {
				_ = file.Close()
			}
			return
		case <-time.After(reopenPause):
		}
	}
}

// MakeFIFO makes a FIFO, and its directory, unless it exists. Only this user and root can write to
// it, because whoever can decides which machine has the address.
func MakeFIFO(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of the fifo %s: %w", path, err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making the fifo %s: %w", path, err)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeNamedPipe:
		return fmt.Errorf("%s exists and is no fifo: remove it, or name another fifo", path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("reading the fifo: %w; if keepalived has made it, make it before both start (packaging/keepalived/caddy-vnic.conf)", err)
	}
	return file.Close()
}

func openFIFO(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err = MakeFIFO(path); err == nil {
			file, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		}
	}
	return file, err
}

// read reads lines until nobody writes to the FIFO, or stop is closed.
func read(file *os.File, heard func(line string), gone func(), stop <-chan struct{}) {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-stop:
			_ = file.SetReadDeadline(time.Unix(0, 1)) // long ago
		case <-ended:
		}
	}()
	var l lines
	had := false
	buffer := make([]byte, 4096)
	for {
		n, err := file.Read(buffer)
		l.add(buffer[:n], heard)
		had = had || n > 0
		if err != nil {
			if had && !errors.Is(err, os.ErrDeadlineExceeded) {
				gone()
			}
			return
		}
	}
}
