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
		fmt.Fprintf(os.Stderr, "Error: caddy %s replaces only what xcaddy has built, and this binary was built from a checkout of caddy-vnic: update the checkout and run make build, or build with xcaddy\n", os.Args[1])
		os.Exit(1)
	}
	caddycmd.Main()
}

// rebuilds tells whether a command would replace this binary by one that Caddy's site
// builds. For this, Caddy looks up each plugin's module among the dependencies of the build.
// Here the plugin belongs to the main module, which is not among them, so Caddy 2.11 panics.
func rebuilds(command string, args []string) bool {
	return slices.Contains([]string{"upgrade", "add-package", "remove-package"}, command) &&
		!slices.Contains(args, "--help") && !slices.Contains(args, "-h")
}
