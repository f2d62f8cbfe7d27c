package upgrade

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// unixSockets returns the paths of the Unix sockets on which a configuration in JSON lets Caddy
// listen. Abstract ones have no path.
func unixSockets(config []byte) (paths []string) {
	var all any
	if json.Unmarshal(config, &all) != nil {
		return nil // Caddy says what is wrong
	}
	collect(all, &paths)
	slices.Sort(paths)
	return slices.Compact(paths)
}

// collect adds the Unix sockets of a value: the strings, and lists of strings, of fields named listen.
func collect(value any, paths *[]string) {
	switch v := value.(type) {
	case []any:
		for _, each := range v {
			collect(each, paths)
		}
	case map[string]any:
		for name, field := range v {
			if name != "listen" {
				collect(field, paths)
				continue
			}
			addresses, several := field.([]any)
			if !several {
				addresses = []any{field}
			}
			for _, a := range addresses {
				if path, ok := unixPath(a); ok {
					*paths = append(*paths, path)
				}
			}
		}
	}
}

// unixPath returns the path of an address such as unix//run/caddy.sock|0220.
func unixPath(address any) (path string, ok bool) {
	text, _ := address.(string)
	network, path, _ := strings.Cut(text, "/")
	path, _, _ = strings.Cut(path, "|")
	return path, network == "unix" && strings.HasPrefix(path, "/")
}

// keptPaths are files of this process with further names, because the other process of an upgrade
// may remove their paths, or put its own files there.
type keptPaths []string

func furtherName(path string) string { return path + ".upgrade" }

// keep gives the files at the paths further names. Paths without a file are left out.
func keep(paths []string) (kept keptPaths, err error) {
	for _, path := range paths {
		_ = os.Remove(furtherName(path)) // of an upgrade that was interrupted
		switch failed := os.Link(path, furtherName(path)); {
		case failed == nil:
			kept = append(kept, path)
		case !errors.Is(failed, fs.ErrNotExist):
			err = errors.Join(err, failed)
		}
	}
	return kept, err
}

// restore puts the files at their paths again, whatever is there.
func (k keptPaths) restore() (err error) {
	for _, path := range k {
		err = errors.Join(err, os.Rename(furtherName(path), path))
	}
	k.drop() // to rename a file to another name of itself does nothing
	return err
}

// drop removes the further names.
func (k keptPaths) drop() {
	for _, path := range k {
		_ = os.Remove(furtherName(path)) // not there after restore
	}
}
