// Package caddyvnic plugs caddy-vnic into Caddy: importing it is all that a
// custom build needs, as in `xcaddy build --with github.com/caddy-vnic/caddy-vnic`.
package caddyvnic

import (
	_ "embed"

	_ "github.com/caddy-vnic/caddy-vnic/caddymodule"
)

// CaddyfileExample is the repository's Caddyfile.example: the paper's system
// with a web site in each segment. It takes the NIC and the sites' roots from
// the environment (VNIC_NIC, VNIC_ROOT_A, VNIC_ROOT_B).
//
//go:embed Caddyfile.example
var CaddyfileExample string
