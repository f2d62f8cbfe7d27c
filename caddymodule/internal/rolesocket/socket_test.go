package rolesocket

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestListen checks the mode of a socket, that a dead one is replaced, and that nothing else is.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	for _, test := range []struct {
		mode string
		want os.FileMode
	}{{"", 0o600}, {"|0660", 0o660}, {"|0222", 0o222}} {
		listener, err := Listen("unix/" + path + test.mode)
		if err != nil {
			t.Fatal(err)
		}
		if found, err := os.Stat(path); err != nil || found.Mode().Perm() != test.want {
			t.Errorf("with %q the mode is %v (%v)", test.mode, found.Mode(), err)
		}
		if _, err := Listen("unix/" + path); err == nil || !strings.Contains(err.Error(), "in use by another process") {
			t.Errorf("a second one: %v", err)
		}
		listener.(*net.UnixListener).SetUnlinkOnClose(false) // as if it was killed
		listener.Close()
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"unix/" + dir + "/file":        "is no socket",
		"unix/" + dir + "/link":        "is no socket",
		"unix/" + dir + "/no/dir.sock": "no such file",
		"unix/a.sock":                  "want a Unix socket",
		"localhost:2020":               "want a Unix socket",
		"":                             "want a Unix socket",
		"unix/" + path + "|0999":       `the mode "0999"`,
		"unix/" + path + "|4777":       `the mode "4777"`,
		"unix/" + path + "|":           `the mode ""`,
	} {
		if _, err := Listen(address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	for _, segment := range []string{"", "a/b", "..", "a%2f", "a b"} {
		if _, err := New(segment, nil, nil, nil); err == nil {
			t.Errorf("segment %q is no error", segment)
		}
	}
}
