package bpf

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// The repository's license stands in each source, and in the objects that are made of
// them, for either byte order.
func TestLicense(t *testing.T) {
	sources, err := filepath.Glob("*.[ch]")
	objects, err2 := filepath.Glob("*.o")
	if err != nil || err2 != nil || len(sources) == 0 || len(objects) == 0 {
		t.Fatalf("the sources are %q (%v), the objects %q (%v)", sources, err, objects, err2)
	}
	for _, source := range sources {
		if !strings.Contains(string(read(t, source)), "// SPDX-License-Identifier: "+License+"\n") {
			t.Errorf("%s does not name the license %s", source, License)
		}
	}
	for _, object := range objects {
		spec, err := ebpf.LoadCollectionSpec(object)
		if err != nil {
			t.Fatal(err)
		}
		for name, program := range spec.Programs {
			if program.License != License {
				t.Errorf("in %s, %s declares the license %q, want %q", object, name, program.License, License)
			}
		}
	}
}
