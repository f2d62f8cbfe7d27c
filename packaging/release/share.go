package main

import (
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// makeShare makes what is the same for all architectures: the manual pages, the completions of
// three shells, and the changelog. It runs the Caddy for this machine.
func (r release) makeShare() (dir string, err error) {
	dir = filepath.Join(r.dist, "share")
	manual := filepath.Join(dir, "man8")
	if err := os.MkdirAll(manual, 0o755); err != nil {
		return "", err
	}
	caddy := r.binary(runtime.GOARCH)
	if output, err := exec.Command(caddy, "manpage", "--directory", manual).CombinedOutput(); err != nil {
		return "", &failure{output, err}
	}
	pages, err := filepath.Glob(filepath.Join(manual, "*.8"))
	if err != nil {
		return "", err
	}
	for _, page := range pages {
		if err := compress(page, page+".gz"); err != nil {
			return "", err
		}
		if err := os.Remove(page); err != nil {
			return "", err
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := exec.Command(caddy, "completion", shell).Output()
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, "caddy."+shell), script, 0o644); err != nil {
			return "", err
		}
	}
	return dir, compress("CHANGELOG.md", filepath.Join(dir, "CHANGELOG.md.gz"))
}

// compress writes a file without the time and name that gzip could keep.
func compress(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

// failure is an error of a program, with what it said.
type failure struct {
	said []byte
	err  error
}

func (f *failure) Error() string { return f.err.Error() + ": " + string(f.said) }
