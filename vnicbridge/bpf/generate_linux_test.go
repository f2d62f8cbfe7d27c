package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The objects in the repository, and the Go code that goes with them, are those
// that the sources make.
func TestObjectsAreCurrent(t *testing.T) {
	for _, tool := range []string{"clang-14", "llvm-strip-14"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: the objects are made with it; apt-get install clang-14 llvm-14 libbpf-dev", err)
		}
	}
	made := t.TempDir()
	words := slices.Insert(generator(t), 3, "-output-dir", made) // go run <package>
	generate := exec.Command(words[0], words[1:]...)
	generate.Env = append(os.Environ(), "GOPACKAGE=bpf")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", words, err, out)
	}
	files, err := filepath.Glob(filepath.Join(made, "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("the generator made %q (%v), want an object and its Go code for each byte order", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if !bytes.Equal(read(t, file), read(t, name)) {
			t.Errorf("%s is not what the sources make: run make generate, and commit what it changes", name)
		}
	}
}

// generator is the command of the go:generate line.
func generator(t *testing.T) (words []string) {
	t.Helper()
	_, rest, found := strings.Cut(string(read(t, "bpf.go")), "\n//go:generate ")
	if !found {
		t.Fatal("bpf.go has no go:generate line")
	}
	line, _, _ := strings.Cut(rest, "\n")
	for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line, -1) {
		words = append(words, strings.Trim(word, `"`))
	}
	return words
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
