package command

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// writeCapture writes a capture to a path, and returns the error if it is refused.
func writeCapture(t *testing.T, path string) error {
	t.Helper()
	file, err := createCaptureFile(path)
	if err != nil {
		return err
	}
	if _, err := file.WriteString("capture"); err != nil {
		t.Error(err)
	}
	return file.Close()
}

func wantFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	info, _ := os.Lstat(path)
	if err != nil || string(got) != content || info.Mode() != mode {
		t.Errorf("%s has %q (%v), its mode is %v; want %q and %v", path, got, err, info.Mode(), content, mode)
	}
}

// TestCaptureFileIsPrivate checks that only the owner can read a capture's file, whatever the
// umask, and whatever file was there before.
func TestCaptureFileIsPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	for name, before := range map[string]fs.FileMode{"new": 0, "open": 0o666, "private": 0o600} {
		path := filepath.Join(dir, name)
		if before != 0 {
			if err := os.WriteFile(path, []byte("a longer capture than the new one"), before); err != nil {
				t.Fatal(err)
			}
		}
		if err := writeCapture(t, path); err != nil {
			t.Error(err)
		}
		wantFile(t, path, "capture", 0o600)
	}
}

// TestCaptureFileFollowsNoLink checks that a capture neither overwrites nor makes the file to
// which a link leads, because the link may be another user's.
func TestCaptureFileFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": target, "dangling": filepath.Join(dir, "nothing"), "to a link": filepath.Join(dir, "link")} {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		if err := writeCapture(t, path); err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("a %s: %v", name, err)
		}
	}
	wantFile(t, target, "precious", 0o644)
	if _, err := os.Lstat(filepath.Join(dir, "nothing")); err == nil {
		t.Error("a file has been made where a link leads")
	}
	for _, path := range []string{dir, "/dev/loop-control/x", filepath.Join(dir, "none", "file")} {
		if err := writeCapture(t, path); err == nil {
			t.Errorf("%s is written", path)
		}
	}
	// The directory's path may have a link.
	if err := os.Symlink(dir, filepath.Join(dir, "directory")); err != nil {
		t.Fatal(err)
	}
	if err := writeCapture(t, filepath.Join(dir, "directory", "file")); err != nil {
		t.Error(err)
	}
	wantFile(t, filepath.Join(dir, "file"), "capture", 0o600)
}

// TestCaptureFileMayBeAPipe checks that a capture can go to a pipe, to a shell's >(command),
// and to devices, as tcpdump's can.
func TestCaptureFileMayBeAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		content, err := os.ReadFile(pipe)
		read <- fmt.Sprint(string(content), err)
	}()
	if err := writeCapture(t, pipe); err != nil {
		t.Error(err)
	}
	if got := <-read; got != "capture<nil>" {
		t.Errorf("the pipe's reader got %q", got)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, path := range []string{fmt.Sprintf("/dev/fd/%d", w.Fd()), fmt.Sprintf("/proc/self/fd/%d", w.Fd())} {
		if err := writeCapture(t, path); err != nil {
			t.Error(err)
		}
		if n, err := r.Read(make([]byte, 100)); n != len("capture") {
			t.Errorf("by %s come %d bytes: %v", path, n, err)
		}
	}
	before, err := os.Stat("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if err := writeCapture(t, "/dev/null"); err != nil {
		t.Error(err)
	}
	if after, err := os.Stat("/dev/null"); err != nil || after.Mode() != before.Mode() {
		t.Errorf("/dev/null is now %v: %v", after.Mode(), err)
	}
}
