package command

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/listenaddr"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/upgrade"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/checkup"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
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
			config, file, err := admin.loadForCheck()
			if err != nil {
				return err
			}
			running := admin.runningStatus()
			findings := listenFindings(&config.Apps.VNIC, config.addresses(), findPlaces(file))
			findings = append(findings, checkup.Run(&config.Apps.VNIC, checkup.Options{
				Own: vnicsOf(running), Listen: config.listen(), Sites: config.sites, Session: session().server,
			})...)
			findings = append(findings, restartFindings(running, &config.Apps.VNIC)...)
			if err := writeFindings(cmd.OutOrStdout(), findings, asJSON); err != nil {
				return err
			}
			if slices.ContainsFunc(findings, func(f checkup.Finding) bool { return f.Severity == checkup.SeverityError }) {
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

func writeFindings(w io.Writer, findings []checkup.Finding, asJSON bool) error {
	if asJSON {
		if findings == nil {
			findings = []checkup.Finding{} // not null
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

// checkedConfig is the part of a configuration that the check reads.
type checkedConfig struct {
	others []string // addresses of other modules' apps, found in their JSON
	sites  []config.Site

	Apps struct {
		VNIC config.Config `json:"vnic"`
		HTTP struct {
			HTTPPort  uint16 `json:"http_port"`
			HTTPSPort uint16 `json:"https_port"`
			Servers   map[string]struct {
				Listen    []string `json:"listen"`
				Protocols []string `json:"protocols"`
				TLS       []any    `json:"tls_connection_policies"`
				Routes    []struct {
					Match []struct {
						Host []string `json:"host"`
					} `json:"match"`
				} `json:"routes"`
			} `json:"servers"`
		} `json:"http"`
	} `json:"apps"`
}

// loadForCheck reads the configuration, and returns the name of its file. Without a file
// the configuration is empty.
func (f *adminFlags) loadForCheck() (config checkedConfig, file string, err error) {
	adapted, file, _, err := caddycmd.LoadConfig(f.config, f.adapter)
	if err != nil {
		return config, file, err
	}
	if len(adapted) > 0 {
		if err := json.Unmarshal(adapted, &config); err != nil {
			return config, file, fmt.Errorf("reading the configuration: %w", err)
		}
	}
	config.others = otherListeners(adapted)
	if err := config.Apps.VNIC.Validate(); err != nil {
		return config, file, err
	}
	config.sites = config.findSites()
	config.Apps.VNIC.ResolveSites(config.sites)
	return config, file, config.Apps.VNIC.Validate()
}

// segmentAddress is the address of a listener on a segment, as JSON.
var segmentAddress = regexp.MustCompile(`"(vnic/[^"\s]+:\d[^"\s]*)"`)

// otherListeners returns the addresses on segments in the JSON of other modules' apps, such
// as layer4.
func otherListeners(adapted []byte) (addresses []string) {
	var config struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if json.Unmarshal(adapted, &config) != nil {
		return nil
	}
	for _, app := range sortedKeys(config.Apps) {
		if app == "http" {
			continue
		}
		for _, address := range segmentAddress.FindAllSubmatch(config.Apps[app], -1) {
			addresses = append(addresses, string(address[1]))
		}
	}
	return addresses
}

// addresses returns the addresses that servers listen on.
func (c *checkedConfig) addresses() (addresses []string) {
	for _, name := range sortedKeys(c.Apps.HTTP.Servers) {
		addresses = append(addresses, c.Apps.HTTP.Servers[name].Listen...)
	}
	return append(addresses, c.others...)
}

// findSites returns what the HTTP servers serve by host name on segments.
func (c *checkedConfig) findSites() []config.Site {
	var servers []listenaddr.Server
	for _, name := range sortedKeys(c.Apps.HTTP.Servers) {
		server := c.Apps.HTTP.Servers[name]
		site := listenaddr.Server{Listen: server.Listen, TLS: len(server.TLS) > 0}
		for _, ports := range listenaddr.TCPPorts(server.Listen) {
			site.TLS = site.TLS || slices.ContainsFunc(ports, func(r config.PortRange) bool { return r.First == c.httpsPort() })
		}
		for _, route := range server.Routes {
			for _, match := range route.Match {
				site.Hosts = append(site.Hosts, match.Host...)
			}
		}
		servers = append(servers, site)
	}
	return listenaddr.Sites(servers, cmp.Or(c.Apps.HTTP.HTTPPort, caddyhttp.DefaultHTTPPort))
}

func (c *checkedConfig) httpsPort() uint16 {
	return cmp.Or(c.Apps.HTTP.HTTPSPort, caddyhttp.DefaultHTTPSPort)
}

// listen returns the ports that servers open, by segment. HTTP/3 adds UDP ports.
func (c *checkedConfig) listen() map[string][]config.PortRange {
	ports := listenaddr.TCPPorts(c.others)
	for _, server := range c.Apps.HTTP.Servers {
		http3 := len(server.Protocols) == 0 || slices.Contains(server.Protocols, "h3")
		for segment, ranges := range listenaddr.TCPPorts(server.Listen) {
			for _, r := range ranges {
				ports[segment] = append(ports[segment], r)
				if http3 && (len(server.TLS) > 0 || r.First == c.httpsPort()) {
					ports[segment] = append(ports[segment], config.PortRange{Protocol: config.UDP, First: r.First, Last: r.Last})
				}
			}
		}
	}
	return ports
}

// runningStatus returns the status of the running instance, or the zero value. It waits 2 s for an
// answer, because the packet filter that is being checked may drop the question.
func (f *adminFlags) runningStatus() (status api.Status) {
	answer := make(chan []byte, 1)
	go func() {
		raw, err := f.request(http.MethodGet, api.StatusPath)
		if err != nil {
			raw = nil
		}
		answer <- raw
	}()
	select {
	case raw := <-answer:
		_ = json.Unmarshal(raw, &status) // of another program
	case <-time.After(2 * time.Second):
	}
	return status
}

func vnicsOf(running api.Status) (devices []string) {
	for _, s := range running.Segments {
		devices = append(devices, s.Interface)
	}
	return devices
}

// restartFindings says what a restart of the running instance interrupts although the service manager
// could keep its files.
func restartFindings(running api.Status, cfg *config.Config) (findings []checkup.Finding) {
	if running.Restart != "" && running.Restart != upgrade.Kept {
		findings = append(findings, checkup.Finding{Severity: checkup.SeverityWarning, Message: "a restart interrupts connections, although the service manager could keep the files: " + running.Restart})
	}
	for _, name := range config.SortedKeys(cfg.Segments) {
		if running.Restart == upgrade.Kept && cfg.Segments[name].Netns != "" {
			findings = append(findings, checkup.Finding{Severity: checkup.SeverityNote, Message: fmt.Sprintf("segment %s: a restart interrupts its connections, because it has a network namespace of its own (caddy vnic upgrade does not)", name)})
		}
	}
	return findings
}
