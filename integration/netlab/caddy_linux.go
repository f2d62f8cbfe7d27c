package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// caddyStart is how long Caddy has to load its first configuration.
const caddyStart = time.Minute

// CaddyOptions say how [Host.StartCaddy] runs Caddy.
type CaddyOptions struct {
	Program string     // a Caddy binary with caddy-vnic; default: this program
	Config  string     // the Caddyfile, or a .json
	Log     string     // the file that gets what Caddy writes
	State   string     // the directory of Caddy's own files
	Env     []string   // in addition to this process's environment
	Files   []*os.File // Caddy's descriptors from 3 on, which are closed here
	Admin   string     // the Unix socket of its admin API, if it has that in place of localhost:2019
}

// Caddy is a process `caddy run` on a host.
type Caddy struct {
	host    *Host
	opts    CaddyOptions
	process *Process
}

// StartCaddy runs Caddy on the host and waits until its configuration is in force.
func (h *Host) StartCaddy(ctx context.Context, opts CaddyOptions) (*Caddy, error) {
	c := &Caddy{host: h, opts: opts}
	cmd, err := c.command(context.Background(), "run")
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	log, err := os.Create(opts.Log)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	defer log.Close() // Caddy has its own descriptor
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, opts.Files
	c.process, err = h.Start(cmd)
	for _, file := range opts.Files {
		_ = file.Close() // Caddy has its own
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := c.waitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: Caddy on %s: %w; its log ends so:\n%s", h.name, err, c.Log(20)), c.process.Stop())
	}
	return c, nil
}

// Reload has Caddy load its Caddyfile again, as `caddy reload` does.
func (c *Caddy) Reload(ctx context.Context) error {
	cmd, err := c.command(ctx, "reload")
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	var output []byte
	err = c.host.Do(func() (err error) {
		output, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("lab: caddy reload on %s: %w: %s", c.host.name, err, output)
	}
	return nil
}

// Process is Caddy's process, to be signalled or waited for.
func (c *Caddy) Process() *Process { return c.process }

// Follow goes on with the process that has taken over from Caddy's.
func (c *Caddy) Follow(pid int) (err error) {
	c.process, err = c.host.Follow(pid)
	return err
}

// Stop ends Caddy and waits for its end.
func (c *Caddy) Stop() error { return c.process.Stop() }

// Log returns the last lines of what Caddy has written.
func (c *Caddy) Log(lines int) string {
	log, err := os.ReadFile(c.opts.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// command is a Caddy command on the Caddyfile. Its storage and the copy of its
// configuration that it saves go to the state directory.
func (c *Caddy) command(ctx context.Context, name string) (*exec.Cmd, error) {
	program := c.opts.Program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	args := []string{name, "--config", c.opts.Config}
	if filepath.Ext(c.opts.Config) != ".json" {
		args = append(args, "--adapter", "caddyfile")
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+c.opts.State, "XDG_DATA_HOME="+c.opts.State)
	cmd.Env = append(cmd.Env, c.opts.Env...)
	return cmd, nil
}

// waitReady waits for the admin API, which answers for the configuration once
// that is in force.
func (c *Caddy) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, caddyStart)
	defer cancel()
	client := c.host.HTTPClient()
	if c.opts.Admin != "" {
		client.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.opts.Admin)
		}}
	}
	for {
		if configInForce(ctx, client) {
			return nil
		}
		select {
		case <-c.process.Done():
			return fmt.Errorf("ended before it was ready: %w", c.process.Wait())
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func configInForce(ctx context.Context, client *http.Client) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:2019/config/", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(request)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && strings.TrimSpace(string(body)) != "null"
}
