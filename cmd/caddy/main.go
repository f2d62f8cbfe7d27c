// Command caddy is Caddy with its standard modules and caddy-vnic: what
// `xcaddy build --with github.com/caddy-vnic/caddy-vnic` makes.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-vnic/caddy-vnic"
)

func main() { caddycmd.Main() }
