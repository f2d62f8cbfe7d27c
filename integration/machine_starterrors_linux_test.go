package integration_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// A start that cannot succeed says what is wrong, with what, and how to mend it,
// and leaves the server as it was. What docs/troubleshooting.md shows then is so, and
// what it says to do helps.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.nicIsEth1()
	tests := []struct {
		name          string
		config        caddyfile
		prepare, undo []string // ip commands on the server
		wrapper       []string // runs Caddy
		wants         []string // in the error
		symptom       string   // on the page
		shows         string   // by what the page says to look at
		mended        []string // what it is in the Caddyfile, and what it is to be
	}{
		{
			name:    "no such NIC",
			config:  caddyfile{nic: "nic9"},
			wants:   []string{"bridge lan", "nic nic9: no such device", "this machine has", "eth1"},
			symptom: "the NIC is not there", shows: "eth1", mended: []string{"nic nic9", "nic eth1"},
		}, {
			name:    "NIC in a bridge",
			prepare: []string{"link add br7 type bridge", "link set eth1 master br7"},
			undo:    []string{"link delete br7"},
			wants:   []string{"nic eth1 is a member of br7 (bridge)", "name br7 as the nic", "ip link set eth1 nomaster"},
			symptom: "the NIC is a member of another device", shows: "bridge_slave",
		}, {
			name:    "VNIC name taken",
			prepare: []string{"tuntap add vnic-A mode tap"},
			undo:    []string{"tuntap delete vnic-A mode tap"},
			wants:   []string{"segment a", "vnic-A exists already", "ip link del vnic-A"},
			symptom: "a device of the VNIC's name exists", shows: "vnic-A", mended: []string{"interface vnic-A", "interface vnic-1"},
		}, {
			name:    "pseudo address on the host",
			prepare: []string{"address add 192.168.1.2/24 dev eth1"},
			undo:    []string{"address delete 192.168.1.2/24 dev eth1"},
			wants:   []string{"bridge lan", "192.168.1.2 is this host's own, on eth1", "ip addr del 192.168.1.2"},
			symptom: "the address is this host's own", shows: "192.168.1.2/24",
		}, {
			name:    "segment over a network of the host",
			prepare: []string{"address add 192.168.50.77/16 dev eth1"},
			undo:    []string{"address delete 192.168.50.77/16 dev eth1"},
			wants:   []string{"segment a", "192.168.50.1/24 overlaps 192.168.50.77/16, which this host has on eth1", "choose another"},
			symptom: "a network overlaps another", shows: "192.168.0.0/16 dev eth1",
			mended: []string{"192.168.", "10.7."},
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
			wrapper: hidden("/dev/net", ""),
			wants:   []string{"/dev/net/tun is missing", "modprobe tun", "--device /dev/net/tun"},
			symptom: "/dev/net/tun is missing", shows: "cannot access", // the fix is for a kernel without the module, or a container
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, args := range tt.prepare {
				s.ip(s.Server, args)
			}
			if tt.config.nic == "" {
				tt.config.nic = "eth1"
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
			if tt.symptom != "" {
				s.troubleshoot(t, tt.symptom, tt.shows, tt.wrapper)
			}
			if tt.mended != nil {
				mended := verbatim(strings.ReplaceAll(tt.config.String(), tt.mended[0], tt.mended[1]))
				if output, err := s.check(mended, nil, false); err != nil {
					t.Errorf("mended by %s: %v:\n%s", tt.mended, err, output)
				}
			}
			for _, args := range tt.undo {
				s.ip(s.Server, args)
			}
		})
	}
	s.start(caddyfile{nic: "eth1"})
}

// troubleshoot looks where docs/troubleshooting.md says for a symptom, checks what that
// shows, and runs the commands that are to mend it.
func (s *scene) troubleshoot(t *testing.T, words, shows string, wrapper []string) {
	t.Helper()
	symptom := examples.SymptomOf(t, troubleshootingPage, words)
	var seen string
	for _, look := range symptom.Look {
		output, _ := s.Server.Run(t.Context(), "env", append(slices.Clone(wrapper), "sh", "-c", look)...) // that it fails may be what is to be seen
		seen += string(output)
	}
	if !strings.Contains(seen, shows) {
		t.Errorf("%s show not %q:\n%s", symptom.Look, shows, seen)
	}
	for _, fix := range symptom.Fix {
		if strings.HasPrefix(fix, "ip ") {
			s.shell(fix)
		}
	}
}

// A process without any capability can adapt and validate a configuration whose NIC does not
// exist. Neither command touches the machine.
func TestAdaptAndValidateTouchNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
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
	args := append(slices.Concat(s.env, []string{"XDG_CONFIG_HOME=" + s.dir, "XDG_DATA_HOME=" + s.dir}), wrapper...)
	args = append(append(args, self), strings.Fields(command)...)
	args = append(args, "--config", s.write("Caddyfile", config.String()), "--adapter", "caddyfile")
	output, err := s.Server.Run(ctx, "env", args...)
	return string(output), err
}
