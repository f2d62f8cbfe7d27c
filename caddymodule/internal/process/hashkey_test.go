package process

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/filestorage"
)

// secretIn returns the secret whose storage is a directory.
func secretIn(t *testing.T, root string) *HashSecret {
	t.Helper()
	storage, err := (&filestorage.FileStorage{Root: root}).CertMagicStorage()
	if err != nil {
		t.Fatal(err)
	}
	s := new(HashSecret)
	s.KeepIn(storage)
	return s
}

// TestHashKeyIsMadeOnce checks that a storage gets one secret, even if several servers that
// share it start at once, that only its owner can read it, and that another storage gets
// another one.
func TestHashKeyIsMadeOnce(t *testing.T) {
	root := t.TempDir()
	var secrets [8][16]byte
	var errs [8]error
	var servers sync.WaitGroup
	for i := range secrets {
		server := secretIn(t, root)
		servers.Go(func() { secrets[i], errs[i] = server.get() })
	}
	servers.Wait()
	for i, err := range errs {
		if err != nil || secrets[i] != secrets[0] || secrets[i] == [16]byte{} {
			t.Errorf("server %d has %x, the first one %x: %v", i, secrets[i], secrets[0], err)
		}
	}
	info, err := os.Stat(filepath.Join(root, HashKeyName))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the secret is kept in %v: %v", info, err)
	}
	if other, err := secretIn(t, t.TempDir()).get(); err != nil || other == secrets[0] {
		t.Errorf("another storage has %x: %v", other, err)
	}
}

func TestHashKeyErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secretIn(t, file).get(); err == nil || !strings.Contains(err.Error(), "vnic/hash_key in Caddy's storage: ") {
		t.Errorf("in a storage that cannot be written: %v", err)
	}
	for _, kept := range []string{"", "0123", strings.Repeat("0", 34), strings.Repeat("x", 32)} {
		root := t.TempDir()
		name := filepath.Join(root, HashKeyName)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(kept), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := secretIn(t, root).get(); err == nil || !strings.Contains(err.Error(), "delete it") {
			t.Errorf("%q is kept: %v", kept, err)
		}
	}
}
