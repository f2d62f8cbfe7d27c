package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/caddyfile"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/command"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
)

// What the internal packages have for Caddy. The modules of this package register
// themselves, each in its own file.
func init() {
	caddy.RegisterModule(api.New(api.Shared{
		Plane: process.Plane, Sockets: process.Sockets, Journal: process.Journal,
		Running: process.Configurations.Any, CloseIdle: process.Proxies.CloseIdle, Upgrade: process.Upgrade.Run,
		Keep: func() { process.Keeper.Write() }, Restart: process.Keeper.State,
	}))
	httpcaddyfile.RegisterGlobalOption("vnic", caddyfile.Parse)
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "vnic",
		Usage:     "<command>",
		Short:     "Shows and operates the network segments behind this server",
		CobraFunc: func(vnic *cobra.Command) { command.Add(vnic, CaddyfileExample) },
	})
}

// CaddyfileExample is the Caddyfile from which the lab plays Fig-18. The root package,
// which embeds the file, sets it.
var CaddyfileExample string
