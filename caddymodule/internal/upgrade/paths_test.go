package upgrade

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestUnixSockets(t *testing.T) {
	const config = `{"admin": {"listen": "unix//run/admin.sock|0220"}, "apps": {"http": {"servers": {
		"a": {"listen": [":80", "unix//run/a.sock", "unix/@abstract"]}, "b": {"listen": ["vnic/a:80", "unix//run/a.sock"]}}}}}`
	if got, want := unixSockets([]byte(config)), []string{"/run/a.sock", "/run/admin.sock"}; !slices.Equal(got, want) {
		t.Errorf("the sockets are %q, want %q", got, want)
	}
	if got := unixSockets([]byte("{")); got != nil {
		t.Errorf("of no JSON they are %q", got)
	}
}

// A socket keeps its path, whether the other process removes the path, listens there itself, or does
// nothing.
func TestKeptPaths(t *testing.T) {
	for what, other := range map[string]func(path string) error{
		"removes it": os.Remove,
		"listens there": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			_, err := net.Listen("unix", path)
			return err
		},
		"leaves it": func(string) error { return nil },
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "socket")
		own, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := keep([]string{path, filepath.Join(dir, "absent")})
		if err != nil {
			t.Fatal(err)
		}
		if err := other(path); err != nil {
			t.Fatal(err)
		}
		if err := kept.restore(); err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error, 1)
		go func() { _, err := own.Accept(); accepted <- err }()
		conn, err := net.Dial("unix", path)
		if err == nil {
			err = <-accepted
			conn.Close()
		}
		if err != nil {
			t.Errorf("the other process %s: %v", what, err)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
			t.Errorf("the other process %s: the directory has %v (%v), want only the socket", what, names, err)
		}
	}
}
