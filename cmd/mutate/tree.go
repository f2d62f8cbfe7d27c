package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bpfDir has the sources of the BPF programs, and the objects made from them.
const bpfDir = "vnicbridge/internal/bpf"

// tree is a copy of the repository in which defects are made.
type tree struct{ dir string }

// copyTree copies the source tree to a temporary directory, without hidden directories and
// bin.
func copyTree(root string) (*tree, error) {
	dir, err := os.MkdirTemp("", "caddy-vnic-mutate-")
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dir, path), 0o755)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, path), content, 0o755)
	})
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("copying the tree: %w", err)
	}
	return &tree{dir}, nil
}

// mutate makes a defect. restore undoes it, and is not nil even if mutate fails half-way.
func (t *tree) mutate(ctx context.Context, m mutation) (restore func() error, err error) {
	restore, err = t.keep(filepath.Dir(m.file))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(t.dir, m.file)
	content, err := os.ReadFile(path)
	if err != nil {
		return restore, err
	}
	mutated, err := m.apply(string(content))
	if err != nil {
		return restore, err
	}
	if err := os.WriteFile(path, []byte(mutated), 0o644); err != nil {
		return restore, err
	}
	if m.inKernel() {
		if output, err := t.command(ctx, "go", "generate", "./"+bpfDir).CombinedOutput(); err != nil {
			return restore, fmt.Errorf("row %s, %s: it does not compile: %w\n%s", m.row, m.defect, err, output)
		}
	}
	return restore, nil
}

// keep reads the files of a directory. restore writes them back.
func (t *tree) keep(dir string) (restore func() error, err error) {
	names, err := filepath.Glob(filepath.Join(t.dir, dir, "*.*"))
	if err != nil {
		return nil, err
	}
	contents := make(map[string][]byte)
	for _, name := range names {
		if contents[name], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return func() error {
		for name, content := range contents {
			if err := os.WriteFile(name, content, 0o644); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// command returns a command that runs in the copy. The copy is no Git checkout, so Go must
// not look for a version to stamp.
func (t *tree) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false "+os.Getenv("GOFLAGS"))
	return cmd
}
