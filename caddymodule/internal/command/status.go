package command

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func statusCommand() *cobra.Command {
	var (
		admin  adminFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "status [--json] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Shows segments, bridges, and what they carried and dropped",
		Long: `
Shows the bridges and segments of the running instance: their devices and
addresses, the flows, packets and bytes that they carried, and what they dropped
and why. FROM is what a bridge's network or a segment's servers have sent, TO what
was sent to them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := admin.request(http.MethodGet, api.StatusPath)
			if err != nil {
				return err
			}
			return printAnswer(cmd.OutOrStdout(), raw, asJSON, func(w io.Writer, status vnicbridge.Status) error {
				return writeStatusAndDraining(w, &admin, status)
			})
		},
	}
	admin.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the JSON of GET /vnic/status")
	return cmd
}

// writeStatusAndDraining writes the status, and what keeps each draining segment.
func writeStatusAndDraining(w io.Writer, admin *adminFlags, status vnicbridge.Status) error {
	if err := writeStatus(w, status); err != nil {
		return err
	}
	for _, name := range sortedKeys(status.Segments) {
		if status.Segments[name].State == config.Draining {
			fmt.Fprintln(w)
			if err := writeDraining(w, admin, name); err != nil {
				return err
			}
		}
	}
	return nil
}
