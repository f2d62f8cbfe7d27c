package command

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/endpoint"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/rolesocket"
)

func serveRoleCommand() *cobra.Command {
	var (
		admin  adminFlags
		listen string
	)
	cmd := &cobra.Command{
		Use:   "serve-role <segment> --listen <socket> [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Lets others administrate one segment, by a Unix socket",
		Long: `
Serves the part of the admin API that is about one segment, at a Unix socket: its
status, flows, clients, history, events, captures and bans, and drain, activate,
stop, start and weight. It shows nothing of other segments, and refuses everything
else. Whoever may connect to the socket may do this, and needs no right to connect
to Caddy's own admin endpoint:

    caddy vnic serve-role a --listen 'unix//run/vnic-role-a/admin.sock|0660'
    caddy vnic status --address unix//run/vnic-role-a/admin.sock

It serves until it is interrupted, and logs what is done, and by which user. The
socket belongs to the user and group of this process; the digits behind | are its
mode, without which only the user may connect.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			address, err := admin.endpoint()
			if err != nil {
				return err
			}
			to, err := endpoint.Parse(address)
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			served, err := rolesocket.New(args[0], to.To(to.Watch()), to.To(to.Transport()), log)
			if err != nil {
				return err
			}
			listener, err := rolesocket.Listen(listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Segment %s is administrated at %s, until interrupted.\n", args[0], listen)
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return rolesocket.Serve(ctx, listener, served)
		},
	}
	admin.register(cmd)
	cmd.Flags().StringVar(&listen, "listen", "", "The Unix socket, and its mode: unix//path|0660")
	_ = cmd.MarkFlagRequired("listen")
	return cmd
}
