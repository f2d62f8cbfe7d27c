package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// require returns an error if something is missing that the run needs.
func (b *bench) require(chosen []suite) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and raw sockets need root: sudo env \"PATH=$PATH\" make bench")
	}
	if b.rounds < 1 {
		return fmt.Errorf("-rounds %d: at least one is needed", b.rounds)
	}
	path, err := filepath.Abs(b.caddy)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(path); err != nil {
		return fmt.Errorf("the custom Caddy binary: %w: run make build, or name it with -caddy", err)
	}
	b.caddy = path
	var tools []string
	for _, s := range chosen {
		tools = append(tools, s.tools...)
		for _, v := range s.variants {
			tools = append(tools, v.tools...)
		}
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w: `make bench` installs what is missing on Debian", err)
		}
	}
	return raiseOpenFiles()
}

// openFiles is how many files each program may have open. The proxies have two for each
// connection.
const openFiles = 20000

func raiseOpenFiles() error {
	var have unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &have); err != nil {
		return err
	}
	want := unix.Rlimit{Cur: openFiles, Max: max(have.Max, openFiles)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
		return fmt.Errorf("allow %d open files: %w", openFiles, err)
	}
	return nil
}

// describe records the machine and the programs' versions in the result.
func (b *bench) describe(ctx context.Context) (err error) {
	if b.result.Machine, err = gauge.ThisMachine(); err != nil {
		return err
	}
	build, err := buildinfo.ReadFile(b.caddy)
	if err != nil {
		return fmt.Errorf("%s: %w", b.caddy, err)
	}
	b.result.Versions = append(ourVersions(build), Version{"Linux", b.result.Machine.Kernel})
	for _, tool := range []struct {
		program string
		args    []string
	}{{"nginx", []string{"-v"}}, {"haproxy", []string{"-v"}}, {"nft", []string{"--version"}}, {"wrk", []string{"-v"}}, {"iperf3", []string{"--version"}}, {"h2load", []string{"--version"}}} {
		if _, err := exec.LookPath(tool.program); err != nil {
			continue // no chosen suite needs it
		}
		// wrk prints its version, and then fails.
		output, _ := exec.CommandContext(ctx, tool.program, tool.args...).CombinedOutput()
		line, _, _ := strings.Cut(string(output), "\n")
		b.result.Versions = append(b.result.Versions, Version{tool.program, strings.TrimSpace(line)})
	}
	return nil
}

// ourVersions returns the versions of what the Caddy binary was built from.
func ourVersions(build *buildinfo.BuildInfo) []Version {
	versions := []Version{{"Go", build.GoVersion}}
	for _, setting := range build.Settings {
		if setting.Key == "vcs.revision" {
			versions = append(versions, Version{"caddy-vnic", setting.Value})
		}
	}
	for _, module := range build.Deps {
		if module.Path == "github.com/caddyserver/caddy/v2" {
			versions = append(versions, Version{"Caddy", module.Version})
		}
	}
	return versions
}
