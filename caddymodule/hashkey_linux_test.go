package caddymodule

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
	"github.com/caddy-vnic/caddy-vnic/integration/examples"
)

// TestHashKeyIsKept checks that a start makes the hash key in the storage of its
// configuration, and that reloads and later starts keep it. If the storage cannot be written,
// Caddy starts and logs a warning.
func TestHashKeyIsKept(t *testing.T) {
	const symptom = "is not kept"
	fixes := examples.SymptomOf(t, "docs/troubleshooting.md", symptom).Fix
	if !inOwnNetwork(t) {
		return
	}
	t.Cleanup(func() { caddy.Stop() })
	storage := t.TempDir()
	stored := func(root string) string {
		return strings.Replace(running, "persist_config off", "persist_config off\n\tstorage file_system "+root, 1)
	}
	kept := func(root string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(root, process.HashKeyName))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	warned := func() bool {
		return slices.ContainsFunc(process.Journal.List(), func(e journal.Event) bool {
			return strings.Contains(e.Message, symptom) && strings.Contains(e.Attributes["error"], process.HashKeyName)
		})
	}
	if _, err := adapt(stored(storage)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(storage); err != nil || len(left) > 0 {
		t.Errorf("adapting has left %v: %v", left, err)
	}
	mustLoad(t, stored(storage))
	first := kept(storage)
	for range 3 {
		mustLoad(t, stored(storage))
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
		mustLoad(t, stored(storage))
	}
	if kept(storage) != first || warned() {
		t.Errorf("the secret was %q and is %q; warned of it: %v", first, kept(storage), warned())
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, stored("/dev/null"))
	if !warned() {
		t.Errorf("nothing warns of a secret that cannot be kept: %+v", process.Journal.List())
	}
	expectBody(t, "http://192.168.50.1/", "a saw 192.168.50.1")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if !slices.Contains(fixes, "storage file_system <directory>") {
		t.Errorf("the page mends it by %q", fixes)
	}
	mustLoad(t, stored(other))
	if kept(other) == first {
		t.Error("two storages have the same secret")
	}
}
