package command

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

func flowsCommand() *cobra.Command {
	var (
		admin         adminFlags
		asJSON, watch bool
	)
	cmd := &cobra.Command{
		Use:   "flows [--client <address>] [--segment <name>] [--bridge <name>] [--name <host name>] [--state <state>] [--protocol <protocol>] [--limit <n>] [--watch] [--json] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Lists the flows that the bridge carries",
		Long: `
Lists the flows of the running instance that match all that is asked for, the most
recent packet first.

A flow comes from a bridge (from outside) or a segment, and goes into a segment or,
by a bridge, outside. If a steer rule with names has chosen the segment, NAME is the
first of them. CLIENT opened the flow and sends to TO; SERVER sees it as AS. UDP and
ICMP flows are half_open until they are answered. PACKETS and BYTES are those of the
client and those of the server. If the terminal is too narrow for a table, each
flow is a list.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				if err := admin.repeat(); err != nil {
					return err
				}
			}
			return show(cmd, watch, func(s screen) error {
				raw, err := admin.request(http.MethodGet, api.FlowsPath+"?"+queryOf(cmd, api.FlowParameters).Encode())
				if err != nil {
					return err
				}
				return printAnswer(s, raw, asJSON, func(list flowlist.List) error {
					writeFlows(s, list)
					return nil
				})
			})
		},
	}
	admin.register(cmd)
	addParameters(cmd, api.FlowParameters)
	cmd.Flags().BoolVar(&watch, "watch", false, "List them again every second, until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the JSON of GET /vnic/flows, each list on a line")
	return cmd
}
