package command

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

func banCommands() []*cobra.Command {
	return []*cobra.Command{banCommand(), unbanCommand(), bansCommand()}
}

func banCommand() *cobra.Command {
	var (
		admin   adminFlags
		want    api.BanRequest
		howLong string
	)
	cmd := &cobra.Command{
		Use:   "ban <client|network>... [--for <duration>] [--bridge <name>|--segment <name>] [--force] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Bans clients: they reach nothing, and nothing reaches them",
		Long: `
Bans clients and networks, from the next packet on, at one bridge or at all, also at
those of later configurations. Their flows end at once. A client that is banned gets
no answer; a server is told that its connections are over. What is dropped counts
under the reason denied.

It holds for --for, as in 90s, 1h or 7d, or until unban. It holds over reloads, and
ends when Caddy ends. Bans that are to stay belong into the Caddyfile, as deny in a
bridge.

With --segment, they are banned from one segment, and reach the others.

The gateways, and the address from which you are logged in, are banned only with
--force.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, clients []string) error {
			if howLong != "" {
				parsed, err := caddy.ParseDuration(howLong)
				if err != nil || parsed <= 0 {
					return fmt.Errorf("--for %q: want a duration, as in 90s, 1h or 7d", howLong)
				}
				want.For = caddy.Duration(parsed)
			}
			want.Networks = clients
			if own := session().client; own.IsValid() {
				want.Own = []netip.Addr{own}
			}
			if err := admin.send(http.MethodPost, api.BansPath, want); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), bannedNow(want))
			return err
		},
	}
	admin.register(cmd)
	cmd.Flags().StringVar(&howLong, "for", "", "How long the ban holds (default: until unban)")
	registerBanPlace(cmd, &want)
	cmd.Flags().BoolVar(&want.Force, "force", false, "Ban gateways and your own address, too")
	return cmd
}

func unbanCommand() *cobra.Command {
	var (
		admin adminFlags
		want  api.BanRequest
	)
	cmd := &cobra.Command{
		Use:   "unban <client|network>... [--bridge <name>|--segment <name>] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Ends bans",
		Long: `
Ends bans that were set by ban, from the next packet on. Name the networks, and the
bridge or the segment if there is one, as bans lists them.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, clients []string) error {
			want.Networks = clients
			if err := admin.send(http.MethodDelete, api.BansPath, want); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s no longer banned%s.\n", are(clients), where(want))
			return err
		},
	}
	admin.register(cmd)
	registerBanPlace(cmd, &want)
	return cmd
}

func registerBanPlace(cmd *cobra.Command, want *api.BanRequest) {
	cmd.Flags().StringVar(&want.Bridge, "bridge", "", "The bridge (default: all)")
	cmd.Flags().StringVar(&want.Segment, "segment", "", "In place of a bridge: the only segment that they do not reach")
	cmd.MarkFlagsMutuallyExclusive("bridge", "segment")
}

func bansCommand() *cobra.Command {
	var (
		admin  adminFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "bans [--json] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Lists the bans",
		Long: `
Lists who is banned, at which bridge and until when: by ban, and by deny in the
Caddyfile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, false, func(s screen) error {
				raw, err := admin.request(http.MethodGet, api.BansPath)
				if err != nil {
					return err
				}
				return printAnswer(s, raw, asJSON, func(list api.Bans) error {
					writeBans(s, list)
					return nil
				})
			})
		},
	}
	admin.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the JSON of GET /vnic/bans")
	return cmd
}

// writeBans writes a table of bans.
func writeBans(s screen, list api.Bans) {
	if len(list.Bans) == 0 {
		fmt.Fprintln(s, "nobody is banned")
		return
	}
	g := newGrid("NETWORK", "AT", "UNTIL")
	for _, b := range list.Bans {
		at, until := b.Bridge, "unban"
		switch {
		case b.Segment != "":
			at = "segment " + b.Segment
		case at == "":
			at = "all"
		}
		switch {
		case b.Configured:
			until = "another configuration"
		case !b.Until.IsZero():
			until = b.Until.Local().Format(time.DateTime)
		}
		network := b.Network.String()
		if b.Network.IsSingleIP() {
			network = b.Network.Addr().String()
		}
		g.row(network, at, until)
	}
	g.write(s)
}
