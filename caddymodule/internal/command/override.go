package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func switchCommand() *cobra.Command {
	var flows bool
	cmd := overrideCommand("switch", "<bridge> <segment>", "Gives the new flows of a bridge to one segment", `
Gives the new flows of a bridge to one segment of its lb_policy, from the next one
on: blue/green, or a roll-back. Flows that live keep their segment, and steer rules
go on as they were. While the segment is drained, stopped or unhealthy, the others
of lb_policy take its place, the first one first.

With --flows the UDP and echo flows that lb_policy had given to another segment end:
the next packet of each goes to this one. TCP connections go on.

It holds over reloads while lb_policy names the segment. It ends with --undo, and
when Caddy ends.`,
		func(bridge string) string { return api.BridgesPath + url.PathEscape(bridge) + "/switch" },
		func(segment string) (any, error) { return api.SwitchRequest{Segment: segment, Flows: flows}, nil },
		writeSwitchNow)
	registerFlows(cmd, &flows)
	cmd.MarkFlagsMutuallyExclusive("flows", "undo")
	return cmd
}

// registerFlows adds the flag --flows to a command that otherwise keeps existing flows.
func registerFlows(cmd *cobra.Command, flows *bool) {
	cmd.Use = strings.Replace(cmd.Use, "<segment>", "<segment> [--flows]", 1)
	cmd.Flags().BoolVar(flows, "flows", false, "Let UDP and echo flows choose again, too")
}

func weightCommand() *cobra.Command {
	return overrideCommand("weight", "<segment> <weight>", "Changes a segment's share of new flows", `
Changes a segment's share of new flows, 1 to 256, from the next one on. Flows that
live keep their segment. It matters under every lb_policy but first and
round_robin.

It holds over reloads, also over one with another weight. It ends with --undo, when
the segment is removed, and when Caddy ends.`,
		func(segment string) string { return api.SegmentsPath + url.PathEscape(segment) + "/weight" },
		func(arg string) (any, error) {
			weight, err := strconv.Atoi(arg)
			if err != nil || weight < 1 || weight > config.MaxWeight {
				return nil, fmt.Errorf("weight %q: want 1 to %d; to give the segment no new flows, drain it; to return to the configuration's weight, use --undo", arg, config.MaxWeight)
			}
			return api.WeightRequest{Weight: weight}, nil
		}, writeWeightNow)
}

// overrideCommand returns a command that overrides a value of the configuration. With
// --undo the command returns to the configuration's value. writeNow says how things stand then.
func overrideCommand(name, args, short, long string, path func(string) string, body func(string) (any, error), writeNow func(w io.Writer, admin *adminFlags, name string) error) *cobra.Command {
	var (
		admin adminFlags
		undo  bool
	)
	cmd := &cobra.Command{
		Use:   name + " " + args + " [--undo] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: short,
		Long:  long,
		Args: func(_ *cobra.Command, given []string) error {
			switch {
			case undo && len(given) != 1:
				return errors.New("--undo takes a name, and no value")
			case !undo && len(given) != 2:
				return fmt.Errorf("want %s, or a name and --undo", args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, given []string) error {
			method, want := http.MethodDelete, any(nil)
			if !undo {
				var err error
				if want, err = body(given[1]); err != nil {
					return err
				}
				method = http.MethodPost
			}
			if err := admin.send(method, path(given[0]), want); err != nil {
				return err
			}
			return writeNow(cmd.OutOrStdout(), &admin, given[0])
		},
	}
	admin.register(cmd)
	cmd.Flags().BoolVar(&undo, "undo", false, "Let the configuration hold again")
	return cmd
}
