// Package caddymodule is caddy-vnic's side of Caddy: the app, the Caddyfile
// options, the network type, the admin routes and the commands.
package caddymodule
