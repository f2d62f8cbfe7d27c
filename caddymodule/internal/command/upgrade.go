package command

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

func upgradeCommand() *cobra.Command {
	var admin adminFlags
	cmd := &cobra.Command{
		Use:   "upgrade [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Replaces the running Caddy without losing a connection",
		Long: `
Starts the program's file on disk, which may be a newer one, beside the running
Caddy and with the configuration that is in force. It takes over the VNICs, the
flows and the listeners, and then the old process finishes the requests that it is
answering, and ends. If the new process fails, or is not ready within 30 seconds,
the old one goes on as if nothing had happened.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := admin.request(http.MethodGet, "/config/")
			if err != nil {
				return err
			}
			raw, err := admin.do(http.MethodPost, api.UpgradePath, bytes.NewReader(config))
			if err != nil {
				return err
			}
			upgraded, err := parseAnswer[api.Upgraded](raw)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Process %d has taken over.\n", upgraded.PID)
			return err
		},
	}
	admin.register(cmd)
	return cmd
}
