package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func execCommand() *cobra.Command {
	var admin adminFlags
	cmd := &cobra.Command{
		Use:   "exec <segment> [--address <interface>] [--config <path> [--adapter <name>]] -- <command> [<argument>...]",
		Short: "Runs a command in the network namespace of a segment",
		Long: `
Runs a command in the network namespace of a segment with netns, as root: the
command reaches what the segment's servers reach, and has their resolv.conf if
there is one in /etc/netns/<namespace>. A segment without netns has no namespace
of its own: there, start its servers as others, and let them listen on its address.`,
		Example: "    caddy vnic exec a -- curl http://192.168.50.2/",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := admin.status()
			if err != nil {
				return err
			}
			words, err := inSegment(s, args[0], args[1:])
			if err != nil {
				return err
			}
			program, err := exec.LookPath(words[0])
			if err != nil {
				return err
			}
			return syscall.Exec(program, words, os.Environ())
		},
	}
	admin.register(cmd)
	return cmd
}

// namespaces is where iproute2 keeps the names of network namespaces.
const namespaces = "/run/netns"

// inSegment returns the words that run a command in the namespace of a segment.
func inSegment(s vnicbridge.Status, name string, command []string) ([]string, error) {
	segment, ok := s.Segments[name]
	switch {
	case !ok:
		return nil, config.UnknownSegment(name, sortedKeys(s.Segments))
	case segment.Device != "":
		return nil, fmt.Errorf("the server of segment %s is behind device %s: start the command there", name, segment.Device)
	case segment.Netns == "":
		return nil, fmt.Errorf("segment %s has no network namespace of its own: start the command without caddy vnic exec, and let it listen on %s; to change that, use netns in the Caddyfile", name, list(segment.Addresses))
	}
	if _, err := os.Stat(filepath.Join(namespaces, segment.Netns)); err != nil {
		return nil, fmt.Errorf("segment %s: only Caddy itself sees its network namespace %s: make it before Caddy starts (systemctl enable --now vnic-netns@%s): %w", name, segment.Netns, segment.Netns, err)
	}
	return append([]string{"ip", "netns", "exec", segment.Netns}, command...), nil
}
