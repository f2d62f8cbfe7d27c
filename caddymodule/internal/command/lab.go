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
	var (
		opts  paper.Options
		pause bool
	)
	cmd := &cobra.Command{
		Use:   "lab [--only <figure>,...] [--pause] [--keep <network>] [--pings <count>] [--interval <duration>] [--captures <directory>]",
		Short: "Plays the paper's experiments in a network of namespaces",
		Long: `
Builds the network of the paper that this plugin follows (a PC, a router and a
server) in network namespaces, runs this Caddy as the server, and prints each
result of the paper's section IV, Fig-19 and Fig-18 beside its own. Then plays them
once more over IPv6, which the paper does not have. Exits non-zero if one differs.

With --only it plays single figures, and with --pause it waits for Enter after each.
With --keep a network stays up until Ctrl-C: "enter" looks around in it.

The machine's own network is not touched, and nothing is left behind. It needs
Linux and /dev/net/tun. An ordinary user gets a user namespace for it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			opts.Output, opts.Example = os.Stdout, example
			if pause {
				opts.Pause = os.Stdin
			}
			err := paper.Play(ctx, opts)
			cmd.SilenceErrors = errors.Is(err, paper.ErrReported)
			return err
		},
	}
	cmd.Flags().StringSliceVar(&opts.Only, "only", nil, "Play only these figures and sections of the paper, as in fig12 or III-C")
	cmd.Flags().BoolVar(&pause, "pause", false, "Wait for Enter after each figure")
	cmd.Flags().StringVar(&opts.Keep, "keep", "", "Leave a network up to explore, until Ctrl-C: paper, fig18, fig19 or names")
	cmd.Flags().IntVarP(&opts.Pings, "pings", "", 10, "Echo requests of each ping")
	cmd.Flags().DurationVarP(&opts.Interval, "interval", "", 0, "Time between echo requests (default 100ms)")
	registerCaptures(cmd, &opts.Captures)
	_ = cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(paper.Figures(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("keep", cobra.FixedCompletions(paper.Networks(), cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(enterCommand())
	return cmd
}

func registerCaptures(cmd *cobra.Command, directory *string) {
	cmd.Flags().StringVarP(directory, "captures", "", paper.DefaultCaptures, "The directory that keeps captures, Caddyfiles and log")
}

func enterCommand() *cobra.Command {
	var captures string
	cmd := &cobra.Command{
		Use:   "enter [--captures <directory>] <host> [<command> [<argument>...]]",
		Short: "Runs a command, or a shell, on a host of a lab that is kept",
		Long: `
Runs a command, or a shell, on a host of a network that "caddy vnic lab --keep" leaves
up: pc1, router or server, and pc2 and router2 on the other side of Fig-19. --captures
is the directory of that lab.`,
		Args:      cobra.MinimumNArgs(1),
		ValidArgs: paper.Hosts(),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			return paper.Enter(captures, args[0], args[1:])
		},
	}
	registerCaptures(cmd, &captures)
	cmd.Flags().SetInterspersed(false) // what follows the host belongs to the command
	return cmd
}
