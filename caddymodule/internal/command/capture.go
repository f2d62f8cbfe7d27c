package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

func captureCommand() *cobra.Command {
	var (
		admin adminFlags
		path  string
	)
	cmd := &cobra.Command{
		Use:   "capture <segment|bridge> -w <file> [--filter <expression>] [--client <address>] [--count <n>] [--duration <time>] [--snaplen <bytes>] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Captures packets of a segment or bridge, before and after they are rewritten",
		Long: `
Captures the frames of the running instance's segment or bridge into a pcapng file,
which Wireshark opens, until interrupted. Each device is an interface of the file: of
a bridge, its NIC and the VNICs of its segments; of a segment, its VNIC, and the NICs
of its bridges with what is of the segment's flows. A frame comes in by the NIC or
goes into the segment (inbound), or the other way (outbound).

What --filter says is held against each frame as it is on its device; --client finds
the flows of a client also where they go by an alias.

Packets never wait for a capture: what it cannot take is dropped from the file, and
counted in it and on standard error. To watch live:

    caddy vnic capture lan -w - | wireshark -k -i -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := queryOf(cmd, api.CaptureParameters)
			query.Set(api.Captured, args[0])
			resp, err := admin.open(http.MethodGet, api.CapturePath+"?"+query.Encode(), nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			file := os.Stdout
			if path != "-" {
				// Opening a pipe waits for its reader. Until then Ctrl-C simply ends the command.
				if file, err = createCaptureFile(path); err != nil {
					return err
				}
				defer file.Close()
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			interrupted := context.AfterFunc(ctx, func() { resp.Body.Close() })
			defer interrupted()
			return saveCapture(ctx, cmd, file, resp.Body)
		},
	}
	admin.register(cmd)
	addParameters(cmd, api.CaptureParameters, api.Captured)
	cmd.Flags().StringVarP(&path, "write", "w", "", "The file, which only its owner can read, and which is replaced; - is standard output")
	_ = cmd.MarkFlagRequired("write")
	return cmd
}

// saveCapture writes a capture to a file, and its totals to standard error.
func saveCapture(ctx context.Context, cmd *cobra.Command, file *os.File, from io.Reader) error {
	copied := captureCopy{from: from, to: file}
	err := copied.run()
	if ctx.Err() != nil && errors.Is(err, errCutOff) {
		err, copied.ended = nil, "interrupted"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d frames, %d dropped because they came too fast\n", copied.frames, copied.dropped())
	if err == nil && copied.ended != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "ended: "+copied.ended)
	}
	if err == nil && file != os.Stdout {
		err = file.Close()
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w: the file is whole up to there; free some space, or capture less (--filter, --client, --snaplen, --count)", err)
	}
	return err
}
