package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

func checkCommand() *cobra.Command {
	var (
		admin  adminFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "check [--json] [--config <path> [--adapter <name>]]",
		Short: "Shows what this machine lacks, or what about it may surprise",
		Long: `
Looks at this machine with the eyes of a configuration, the Caddyfile in the
current directory if none is named, and prints what it lacks and what will
surprise its administrator, one line each, with the fix. Without a configuration
it looks at the machine alone. It changes nothing and may be run before the first
start, but sees what its own privileges let it see: run it as Caddy will run.

Exits non-zero when something would keep Caddy from starting.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, opts, err := admin.loadForCheck()
			if err != nil {
				return err
			}
			opts.Session = session()
			findings := vnicbridge.Check(config, opts)
			if err := writeFindings(cmd.OutOrStdout(), findings, asJSON); err != nil {
				return err
			}
			if slices.ContainsFunc(findings, func(f vnicbridge.Finding) bool { return f.Severity == vnicbridge.SeverityError }) {
				cmd.SilenceErrors = true // they are printed
				return errors.New("this configuration cannot be put in force on this machine")
			}
			return nil
		},
	}
	admin.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the findings as JSON")
	return cmd
}

func writeFindings(w io.Writer, findings []vnicbridge.Finding, asJSON bool) error {
	if asJSON {
		if findings == nil {
			findings = []vnicbridge.Finding{} // not null
		}
		return json.NewEncoder(w).Encode(findings)
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%s: %s\n", f.Severity, f.Message); err != nil {
			return err
		}
	}
	if len(findings) == 0 {
		_, err := fmt.Fprintln(w, "ok: nothing is missing, nothing will surprise")
		return err
	}
	return nil
}

// loadForCheck reads the configuration, of which none is an empty one, and looks
// whether an instance runs already.
func (f *adminFlags) loadForCheck() (*vnicbridge.Config, vnicbridge.CheckOptions, error) {
	opts := vnicbridge.CheckOptions{Listen: make(map[string][]vnicbridge.PortRange)}
	adapted, _, _, err := caddycmd.LoadConfig(f.config, f.adapter)
	if err != nil {
		return nil, opts, err
	}
	var config struct {
		Apps struct {
			VNIC vnicbridge.Config `json:"vnic"`
			HTTP struct {
				Servers map[string]struct {
					Listen []string `json:"listen"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if len(adapted) > 0 {
		if err := json.Unmarshal(adapted, &config); err != nil {
			return nil, opts, fmt.Errorf("reading the configuration: %w", err)
		}
	}
	if err := config.Apps.VNIC.Validate(); err != nil {
		return nil, opts, err
	}
	for _, server := range config.Apps.HTTP.Servers {
		for _, listen := range server.Listen {
			addr, err := caddy.ParseNetworkAddress(listen)
			if err == nil && strings.HasPrefix(addr.Network, "vnic") {
				port := vnicbridge.PortRange{Protocol: vnicbridge.TCP, First: uint16(addr.StartPort), Last: uint16(addr.EndPort)}
				opts.Listen[addr.Host] = append(opts.Listen[addr.Host], port)
			}
		}
	}
	opts.Own = f.runningVNICs()
	return &config.Apps.VNIC, opts, nil
}

// runningVNICs are the devices of the instance that runs, if one answers at once:
// the packet filter that is to be checked may hold the question up.
func (f *adminFlags) runningVNICs() (devices []string) {
	answer := make(chan []byte, 1)
	go func() {
		raw, err := f.request(http.MethodGet, statusPath)
		if err != nil {
			raw = nil
		}
		answer <- raw
	}()
	var status vnicbridge.Status
	select {
	case raw := <-answer:
		if json.Unmarshal(raw, &status) != nil {
			return nil
		}
	case <-time.After(2 * time.Second):
	}
	for _, s := range status.Segments {
		devices = append(devices, s.Interface)
	}
	return devices
}
