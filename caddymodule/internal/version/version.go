// Package version tells which version of caddy-vnic a binary has.
package version

import (
	"cmp"
	"runtime/debug"
)

const module = "github.com/caddy-vnic/caddy-vnic"

// tagged is the version that the Makefile gives the linker, by git's tag.
var tagged string

// Ours returns the version of caddy-vnic: the tag of the build if the Makefile made it, or the
// version of the module that xcaddy or go took.
func Ours() string {
	return cmp.Or(tagged, of(module), "unknown")
}

// Caddy returns the version of the Caddy that the plugin is built into.
func Caddy() string {
	return cmp.Or(of("github.com/caddyserver/caddy/v2"), "unknown")
}

// of returns the version of a module of this binary, or "" if the binary does not tell.
func of(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return find(info, path)
}

func find(info *debug.BuildInfo, path string) string {
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path != path {
			continue
		}
		if m.Replace != nil && m.Replace.Version != "" {
			return m.Replace.Version
		}
		return m.Version
	}
	return ""
}
