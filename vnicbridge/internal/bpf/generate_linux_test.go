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
	commands := generators(t)
	for _, words := range commands {
		words = slices.Insert(words, 3, "-output-dir", made) // go run <package>
		generate := exec.Command(words[0], words[1:]...)
		generate.Env = append(os.Environ(), "GOPACKAGE=bpf")
		if out, err := generate.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", words, err, out)
		}
	}
	files, err := filepath.Glob(filepath.Join(made, "*"))
	if err != nil || len(files) != 4*len(commands) {
		t.Fatalf("the generator made %q (%v), want an object and its Go code for each byte order", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if !bytes.Equal(read(t, file), read(t, name)) {
			t.Errorf("%s is not what the sources make: run make generate, and commit what it changes", name)
		}
	}
}

// generators are the commands of the go:generate lines.
func generators(t *testing.T) (commands [][]string) {
	t.Helper()
	for _, line := range regexp.MustCompile(`(?m)^//go:generate (.*)$`).FindAllStringSubmatch(string(read(t, "bpf.go")), -1) {
		var words []string
		for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line[1], -1) {
			words = append(words, strings.Trim(word, `"`))
		}
		commands = append(commands, words)
	}
	if len(commands) == 0 {
		t.Fatal("bpf.go has no go:generate line")
	}
	return commands
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
