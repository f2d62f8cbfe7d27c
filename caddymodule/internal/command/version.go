package command

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/version"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints the versions of caddy-vnic, Caddy and Go",
		Long: `
Prints which caddy-vnic this program has, and with which Caddy and Go it was built.
The running instance may be an older program: caddy vnic status shows its version.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "caddy-vnic %s, Caddy %s, %s %s/%s\n",
				version.Ours(), version.Caddy(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
