// Package tested says with which Caddy and which Go this version of caddy-vnic was tested.
//
// The lean proxy and package http1 stand in for code of Caddy and of net/http, and their
// tests compare both byte by byte. xcaddy builds with the newest Caddy and runs no test.
// So a build with other versions must leave requests to the code of Caddy and net/http.
package tested

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// The versions that the tests ran with. A test holds them to go.mod.
const (
	Caddy = "v2.11.9"
	Go    = "go1.26" // and all its patch releases, which keep what net/http sends
)

const (
	caddyModule = "github.com/caddyserver/caddy/v2"
	ownModule   = "github.com/caddy-vnic/caddy-vnic"
)

// Build returns an error if this program was built with other versions than the tests.
func Build() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return check(info)
}

func check(info *debug.BuildInfo) error {
	if caddy := caddyOf(info); caddy != Caddy {
		return fmt.Errorf("this program is built with Caddy %s, and this version of caddy-vnic was tested with %s", caddy, Caddy)
	}
	if info.GoVersion != Go && !strings.HasPrefix(info.GoVersion, Go+".") {
		return fmt.Errorf("this program is built with %s, and this version of caddy-vnic was tested with %s", info.GoVersion, Go)
	}
	return nil
}

// caddyOf returns Caddy's version in a build. A module that replaces Caddy can have any
// code, unless it is a version of Caddy itself.
func caddyOf(info *debug.BuildInfo) string {
	for _, module := range info.Deps {
		if module.Path != caddyModule {
			continue
		}
		if module.Replace == nil {
			return module.Version
		}
		if module.Replace.Path == caddyModule {
			return module.Replace.Version
		}
		return "replaced by " + module.Replace.Path
	}
	if info.Main.Path == ownModule {
		return Caddy // a test binary of this module lists no dependencies; go.mod chooses Caddy
	}
	return "of an unknown version"
}
