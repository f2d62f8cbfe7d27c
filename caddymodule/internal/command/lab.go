package command

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

func labCommand(example string) *cobra.Command {
	var opts paper.Options
	cmd := &cobra.Command{
		Use:   "lab [--pings <count>] [--interval <duration>] [--captures <directory>] [--keep]",
		Short: "Plays the paper's experiments in a network of namespaces",
		Long: `
Builds the network of the paper that this plugin follows (a PC, a router and a
server) in network namespaces, runs this Caddy as the server, and prints each
result of the paper's section IV, Fig-19 and Fig-18 beside its own. Then plays them
once more over IPv6, which the paper does not have. Exits non-zero if one differs.

The machine's own network is not touched, and nothing is left behind. It needs
Linux and /dev/net/tun. An ordinary user gets a user namespace for it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			opts.Output, opts.Example = os.Stdout, example
			err := paper.Play(ctx, opts)
			cmd.SilenceErrors = errors.Is(err, paper.ErrReported)
			return err
		},
	}
	cmd.Flags().IntVarP(&opts.Pings, "pings", "", 10, "Echo requests of each ping")
	cmd.Flags().DurationVarP(&opts.Interval, "interval", "", 0, "Time between echo requests (default 100ms)")
	cmd.Flags().StringVarP(&opts.Captures, "captures", "", "lab-captures", "The directory that keeps captures, Caddyfile and log")
	cmd.Flags().BoolVarP(&opts.Keep, "keep", "", false, "Leave the network up to explore, until Ctrl-C")
	return cmd
}
