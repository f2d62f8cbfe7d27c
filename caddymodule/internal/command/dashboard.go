package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/dashboard"
)

func dashboardCommand() *cobra.Command {
	var (
		admin  adminFlags
		listen string
	)
	cmd := &cobra.Command{
		Use:   "dashboard [--listen <address>] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Serves a page that shows and operates the running instance",
		Long: `
Serves a page that shows the running instance as it works: the network as a
picture, rates, flows, top clients, drops and events; and that switches, drains,
stops, starts, bans and captures. It serves until it is interrupted, on this
machine alone: the address that it prints opens the page once, in one browser.

From another machine, choose the port and forward it, the same on both sides:

    ssh -L 7020:127.0.0.1:7020 server caddy vnic dashboard --listen 127.0.0.1:7020`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := admin.endpoint()
			if err != nil {
				return err
			}
			forward, err := dashboard.Forward(address)
			if err != nil {
				return err
			}
			listener, err := listenLoopback(listen)
			if err != nil {
				return err
			}
			var own []netip.Addr
			if client := session().client; client.IsValid() {
				own = append(own, client)
			}
			page := dashboard.New(listener.Addr().(*net.TCPAddr).AddrPort(), forward, own...)
			fmt.Fprintf(cmd.OutOrStdout(), "The dashboard, for one browser, until interrupted:\n\n    %s\n\n", page.URL())
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return serveUntil(ctx, listener, page)
		},
	}
	admin.register(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "The loopback address and port to serve on; port 0: any")
	return cmd
}

// listenLoopback listens on an address that only this machine can connect to.
func listenLoopback(address string) (net.Listener, error) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || !addr.Addr().IsLoopback() {
		return nil, fmt.Errorf("--listen %s: want a loopback address and a port, as in 127.0.0.1:7020; whoever reaches the page controls the instance", address)
	}
	return net.Listen("tcp", address)
}

// serveUntil serves until the context is done.
func serveUntil(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() { server.Close() })
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
