// Package caddyvnic plugs caddy-vnic into Caddy: importing it is all that a
// custom build needs, as in `xcaddy build --with github.com/caddy-vnic/caddy-vnic`.
package caddyvnic

import (
	_ "embed"

	"github.com/caddy-vnic/caddy-vnic/caddymodule"
)

// CaddyfileExample is the repository's Caddyfile.example: the paper's system
// with the path groups of its Fig-18. It takes the NIC, the sites' roots and the
// issuer of certificates from the environment (VNIC_NIC, VNIC_ROOT_A,
// VNIC_ROOT_B, VNIC_ISSUER).
//
//go:embed Caddyfile.example
var CaddyfileExample string

func init() { caddymodule.CaddyfileExample = CaddyfileExample }
