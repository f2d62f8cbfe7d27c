package elector

import (
	"fmt"
	"os"
	"path/filepath"
)

// Track tells an elector by a file whether this machine is fit. keepalived notices when a file that was
// written is closed, so one that says so already is not written.
func Track(path string, fit bool) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of the track file %s: %w", path, err)
	}
	value := "1\n"
	if fit {
		value = "0\n"
	}
	if says, err := os.ReadFile(path); err == nil && string(says) == value {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0o644)
}
