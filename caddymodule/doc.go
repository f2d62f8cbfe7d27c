// Package caddymodule is caddy-vnic's side of Caddy: the app vnic, the network type
// vnic/<segment>, the handler vnic_proxy and the source of trusted proxies.
//
// The internal packages have the rest: caddyfile parses the global option, api serves the
// admin routes, command has the commands, and process has what outlives configurations.
package caddymodule
