package version

import (
	"runtime/debug"
	"testing"
)

// TestFind looks a module up in the build information of a binary that xcaddy makes, of one
// from a checkout, and of one whose module is replaced.
func TestFind(t *testing.T) {
	fork := &debug.Module{Path: "example.com/fork", Version: "v0.2.0"}
	checkout := &debug.Module{Path: "/srv/checkout"}
	for want, info := range map[string]*debug.BuildInfo{
		"v0.1.0":  {Main: debug.Module{Path: "caddy"}, Deps: []*debug.Module{{Path: "example.com/x", Version: "v9.0.0"}, {Path: module, Version: "v0.1.0"}}},
		"v0.2.0":  {Deps: []*debug.Module{{Path: module, Version: "v0.1.0", Replace: fork}}},
		"v0.0.0":  {Deps: []*debug.Module{{Path: module, Version: "v0.0.0", Replace: checkout}}},
		"(devel)": {Main: debug.Module{Path: module, Version: "(devel)"}},
		"":        {Main: debug.Module{Path: "caddy", Version: "v1.0.0"}},
	} {
		if got := find(info, module); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
