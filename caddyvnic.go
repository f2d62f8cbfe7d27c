// Package caddyvnic plugs caddy-vnic into Caddy: importing it is all that a
// custom build needs, as in `xcaddy build --with github.com/caddy-vnic/caddy-vnic`.
package caddyvnic

import _ "github.com/caddy-vnic/caddy-vnic/caddymodule"
