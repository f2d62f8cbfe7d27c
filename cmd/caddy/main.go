// Command caddy is Caddy with its standard modules and caddy-vnic: what
// `xcaddy build --with github.com/caddy-vnic/caddy-vnic` makes.
package main

import (
	"fmt"
	"os"
	"slices"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-vnic/caddy-vnic"
)

func main() {
	if len(os.Args) > 1 && rebuilds(os.Args[1], os.Args[2:]) {
		fmt.Fprintf(os.Stderr, "Error: caddy %s replaces builds of xcaddy only, and this one is of a checkout of caddy-vnic: update the checkout and run make build, or build with xcaddy\n", os.Args[1])
		os.Exit(1)
	}
	caddycmd.Main()
}

// rebuilds tells whether a command would have Caddy's site build this binary anew. For
// that Caddy looks up each plugin's module among the dependencies of the build. A plugin
// of the main module, as here, is none of them, and Caddy 2.11 panics.
func rebuilds(command string, args []string) bool {
	return slices.Contains([]string{"upgrade", "add-package", "remove-package"}, command) &&
		!slices.Contains(args, "--help") && !slices.Contains(args, "-h")
}
