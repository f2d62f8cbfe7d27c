package integration_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// A start that cannot succeed says what is wrong, with what, and how to mend it,
// and leaves the server as it was.
func TestStartErrors(t *testing.T) {
	s := newScene(t, integration.PaperOptions{})
	tests := []struct {
		name          string
		config        caddyfile
		prepare, undo []string // ip commands on the server
		wrapper       []string // runs Caddy
		wants         []string // in the error
	}{
		{
			name:   "no such NIC",
			config: caddyfile{nic: "nic9"},
			wants:  []string{"bridge lan", "nic nic9: no such device", "this machine has", "nic0"},
		}, {
			name:    "NIC in a bridge",
			prepare: []string{"link add br7 type bridge", "link set nic0 master br7"},
			undo:    []string{"link set nic0 nomaster", "link delete br7"},
			wants:   []string{"nic nic0 is a member of br7 (bridge)", "name br7 as the nic", "ip link set nic0 nomaster"},
		}, {
			name:    "VNIC name taken",
			prepare: []string{"tuntap add vnic-A mode tap"},
			undo:    []string{"tuntap delete vnic-A mode tap"},
			wants:   []string{"segment a", "vnic-A exists already", "ip link del vnic-A"},
		}, {
			name:    "pseudo address on the host",
			prepare: []string{"address add 192.168.1.2/24 dev nic0"},
			undo:    []string{"address delete 192.168.1.2/24 dev nic0"},
			wants:   []string{"bridge lan", "192.168.1.2 is this host's own, on nic0", "ip addr del 192.168.1.2"},
		}, {
			name:    "segment over a network of the host",
			prepare: []string{"address add 192.168.50.77/16 dev nic0"},
			undo:    []string{"address delete 192.168.50.77/16 dev nic0"},
			wants:   []string{"segment a", "192.168.50.1/24 overlaps 192.168.50.77/16, which this host has on nic0", "choose another"},
		}, {
			name:    "without CAP_NET_ADMIN",
			wrapper: []string{"setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"},
			wants:   []string{"CAP_NET_ADMIN is missing", "setcap", "AmbientCapabilities"},
		}, {
			name:    "without CAP_NET_RAW",
			wrapper: []string{"setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"},
			wants:   []string{"CAP_NET_RAW is missing", "setcap", "AmbientCapabilities"},
		}, {
			name:    "without /dev/net/tun",
			wrapper: []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /dev/net && exec "$@"`, "sh"},
			wants:   []string{"/dev/net/tun is missing", "modprobe tun", "--device /dev/net/tun"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, args := range tt.prepare {
				s.ip(s.Server, args)
			}
			before := s.snapshot()
			output, err := s.caddyCommand("run", tt.config, tt.wrapper...)
			if err == nil {
				t.Fatal("it started")
			}
			for _, want := range tt.wants {
				if !strings.Contains(output, want) {
					t.Errorf("the error lacks %q:\n%s", want, output)
				}
			}
			s.wantSame("after the start has failed", before)
			for _, args := range tt.undo {
				s.ip(s.Server, args)
			}
		})
	}
	s.start(caddyfile{})
}

// Without any capability, and for a NIC that is not there, a configuration can be
// adapted and validated; neither touches the machine.
func TestAdaptAndValidateTouchNothing(t *testing.T) {
	s := newScene(t, integration.PaperOptions{})
	before := s.snapshot()
	for _, command := range []string{"adapt", "validate"} {
		output, err := s.caddyCommand(command, caddyfile{nic: "nic9"}, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
		if err != nil {
			t.Errorf("caddy %s: %v", command, err)
		}
		if want := map[string]string{"adapt": `"nic":"nic9"`, "validate": "Valid configuration"}[command]; !strings.Contains(output, want) {
			t.Errorf("caddy %s does not say %q:\n%s", command, want, output)
		}
	}
	s.wantSame("after adapt and validate", before)
}

// caddyCommand runs a Caddy command on the server to its end.
func (s *scene) caddyCommand(command string, config fmt.Stringer, wrapper ...string) (string, error) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	args := append([]string{asCaddy, "XDG_CONFIG_HOME=" + s.dir, "XDG_DATA_HOME=" + s.dir}, wrapper...)
	args = append(args, self, command, "--config", s.write("Caddyfile", config.String()), "--adapter", "caddyfile")
	output, err := s.Server.Run(ctx, "env", args...)
	return string(output), err
}
