package command

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

func operationCommands() []*cobra.Command {
	return []*cobra.Command{
		drainCommand(),
		drainable(operationCommand("activate", "Gives a segment new flows again", `
Gives a segment new flows again, after drain or stop. It is the same as start. Of
bridge/<bridge> it tells the elector that this machine may have its addresses again.`)),
		operationCommand("stop", "Stops the servers of one segment", `
Stops the servers of one segment while the others go on: the segment gets no new
flows, its listeners close, requests that are being answered are finished, idle
connections are closed. A client that would get the segment gets another one, or
is refused at once. It holds over reloads, until start, or until the segment or
Caddy itself is gone. Of a server that is not Caddy's own it stops the new flows
only. It says how many flows are left, and of which clients.`),
		operationCommand("start", "Starts the servers of one segment again", `
Starts the servers of one segment again, after stop, and gives it new flows.`),
	}
}

func drainCommand() *cobra.Command {
	var want api.DrainRequest
	cmd := commandWith("drain", &want, "Gives a segment no new flows", `
Gives a segment no new flows: the policy chooses among the others, and a flow that
a steer rule would give to it is refused. The flows that it has go on, but Caddy's
sites there end kept-alive connections once no request is being answered. It says
how many flows are left, and of which clients. activate ends it. It holds over
reloads, until the segment or Caddy itself is gone.

With --flows its UDP and echo flows end, and the next packet of each chooses again.
TCP connections go on.

Of bridge/<bridge>, with failover, it tells the elector to give the bridge's
addresses to another machine, and with announce, it tells routers to send to
others. Until they do, the bridge goes on as before.`)
	registerFlows(cmd, &want.Flows)
	return drainable(cmd)
}

// drainable lets a command take bridge/<bridge> in place of a segment.
func drainable(cmd *cobra.Command) *cobra.Command {
	cmd.Use = strings.Replace(cmd.Use, "<segment>", "<segment|bridge/name>", 1)
	ofSegment := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		bridge, ok := strings.CutPrefix(args[0], "bridge/")
		if !ok {
			return ofSegment(cmd, args)
		}
		if flows := cmd.Flags().Lookup("flows"); flows != nil && flows.Changed {
			return errors.New("--flows is for segments: the flows of a bridge go on")
		}
		admin := adminOf(cmd)
		if err := admin.send(http.MethodPost, api.BridgesPath+url.PathEscape(bridge)+"/"+cmd.Name(), struct{}{}); err != nil {
			return err
		}
		return writeBridgeNow(cmd.OutOrStdout(), admin, bridge)
	}
	return cmd
}

func operationCommand(name, short, long string) *cobra.Command {
	return commandWith(name, struct{}{}, short, long)
}

// commandWith returns the command of an operation whose request has a body.
func commandWith(name string, body any, short, long string) *cobra.Command {
	var admin adminFlags
	cmd := &cobra.Command{
		Use:   name + " <segment> [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: short,
		Long:  long,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := admin.send(http.MethodPost, api.SegmentsPath+url.PathEscape(args[0])+"/"+name, body)
			if err != nil {
				return err
			}
			return writeSegmentNow(cmd.OutOrStdout(), &admin, args[0])
		},
	}
	admin.register(cmd)
	return cmd
}
