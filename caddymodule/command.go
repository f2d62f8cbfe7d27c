package caddymodule

import (
	"github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "vnic",
		Usage: "<command>",
		Short: "Shows the network segments behind this server",
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(statusCommand(), labCommand())
		},
	})
}

// adminFlags find the admin API as Caddy's own commands do.
type adminFlags struct {
	address, config, adapter string
}

func (f *adminFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.address, "address", "", "", "The address of the running instance's admin API")
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "A configuration file to take the admin address from")
	cmd.Flags().StringVarP(&f.adapter, "adapter", "a", "", "The adapter of that configuration file")
}

func (f *adminFlags) determine() (string, error) {
	return caddycmd.DetermineAdminAPIAddress(f.address, nil, f.config, f.adapter)
}
