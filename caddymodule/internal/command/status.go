package command

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func statusCommand() *cobra.Command {
	var (
		admin         adminFlags
		asJSON, watch bool
	)
	cmd := &cobra.Command{
		Use:   "status [<segment|bridge>] [--watch] [--json] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Shows segments, bridges, and what they carried and dropped",
		Long: `
Shows the bridges and segments of the running instance: their devices and
addresses, the flows, packets and bytes that they carried, and what they dropped
and why. FROM is what a bridge's network or a segment's servers have sent, TO what
was sent to them.

A table that is too wide for the terminal leaves out what is needed least. With the
name of a segment or bridge, the command shows everything about it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if watch {
				if err := admin.repeat(); err != nil {
					return err
				}
			}
			return show(cmd, watch, func(s screen) error {
				raw, err := admin.request(http.MethodGet, api.StatusPath)
				if err != nil {
					return err
				}
				return printAnswer(s, raw, asJSON && len(names) == 0, func(status api.Status) error {
					if status.Status, err = only(status.Status, names); err != nil {
						return err
					}
					if asJSON {
						return json.NewEncoder(s).Encode(status)
					}
					writeStatus(s, status, len(names) > 0)
					return writeAllDraining(s, &admin, status.Status)
				})
			})
		},
	}
	admin.register(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "Show it again every second, until interrupted")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the JSON of GET /vnic/status, each answer on a line")
	return cmd
}

// only returns the part of a status that is about a segment or bridge. Without names it returns
// the whole.
func only(s vnicbridge.Status, names []string) (vnicbridge.Status, error) {
	for _, name := range names {
		segment, isSegment := s.Segments[name]
		bridge, isBridge := s.Bridges[name]
		if !isSegment && !isBridge {
			return s, fmt.Errorf("%w; its bridges are %s", config.UnknownSegment(name, sortedKeys(s.Segments)), enumerate(sortedKeys(s.Bridges)))
		}
		s.Segments, s.Bridges = map[string]vnicbridge.SegmentStatus{}, map[string]vnicbridge.BridgeStatus{}
		if isSegment {
			s.Segments[name] = segment
		}
		if isBridge {
			s.Bridges[name] = bridge
		}
	}
	return s, nil
}

// writeAllDraining writes what keeps each draining segment.
func writeAllDraining(s screen, admin *adminFlags, status vnicbridge.Status) error {
	for _, name := range sortedKeys(status.Segments) {
		if state := status.Segments[name].State; state == config.Draining {
			fmt.Fprintln(s)
			if err := writeLeft(s, admin, name, state); err != nil {
				return err
			}
		}
	}
	return nil
}
