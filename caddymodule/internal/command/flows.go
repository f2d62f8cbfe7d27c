package command

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// watchInterval is the least time between two lists.
const watchInterval = time.Second

func flowsCommand() *cobra.Command {
	var (
		admin         adminFlags
		asJSON, watch bool
	)
	cmd := &cobra.Command{
		Use:   "flows [--client <address>] [--segment <name>] [--bridge <name>] [--name <host name>] [--state <state>] [--protocol <protocol>] [--limit <n>] [--watch] [--json] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Lists the flows that the bridge carries",
		Long: `
Lists the flows of the running instance that match all that is asked for, those
first that had a packet last.

A flow comes from a bridge (from outside) or a segment, and goes into a segment or,
by a bridge, outside. If a steer rule with names has chosen the segment, NAME is the
first of them. CLIENT opened the flow and sends to TO; SERVER sees it as AS. UDP and
ICMP flows are half_open until they are answered. PACKETS and BYTES are those of the
client and those of the server.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			for {
				began := time.Now()
				raw, err := admin.request(http.MethodGet, api.FlowsPath+"?"+queryOf(cmd, api.FlowParameters).Encode())
				if err != nil {
					return err
				}
				if err := printFlows(out, raw, asJSON, watch); err != nil || !watch {
					return err
				}
				// Reading a large table must not take more than a tenth of the time.
				select {
				case <-time.After(max(watchInterval, 10*time.Since(began))):
				case <-cmd.Context().Done():
					return nil
				}
			}
		},
	}
	admin.register(cmd)
	addParameters(cmd, api.FlowParameters)
	cmd.Flags().BoolVar(&watch, "watch", false, "List them again every second, until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the JSON of GET /vnic/flows, each list on a line")
	return cmd
}

// printFlows prints a list. With --watch on a terminal, it replaces the previous list.
func printFlows(out io.Writer, raw []byte, asJSON, watch bool) error {
	return printAnswer(out, raw, asJSON, func(out io.Writer, list flowlist.List) error {
		if f, ok := out.(*os.File); ok && watch && term.IsTerminal(int(f.Fd())) {
			fmt.Fprint(out, "\x1b[H\x1b[2J") // to the top left, and clear (ECMA-48)
		}
		return writeFlows(out, list)
	})
}
