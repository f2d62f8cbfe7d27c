package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
)

// load validates a Caddy configuration, as `caddy validate` does.
func load(t *testing.T, text string) error {
	t.Helper()
	var config *caddy.Config
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	config.Admin = &caddy.AdminConfig{Disabled: true}
	return caddy.Validate(config)
}

// TestValidateTouchesNothing checks that a configuration with devices that do not exist
// passes validation, and that validation puts nothing in force.
func TestValidateTouchesNothing(t *testing.T) {
	before := devices(t)
	for name, fixture := range fixtures(t) {
		if !strings.HasPrefix(fixture.want, "{") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			storage := t.TempDir()
			if err := load(t, strings.Replace(fixture.want, "{", fmt.Sprintf(`{"storage":{"module":"file_system","root":%q},`, storage), 1)); err != nil {
				t.Error(err)
			}
			if process.Configurations.Any() {
				t.Error("a configuration is in force")
			}
			if _, err := os.Stat(filepath.Join(storage, process.HashKeyName)); err == nil {
				t.Error("the secret of the hashes has been made")
			}
		})
	}
	if after := devices(t); after != before {
		t.Errorf("the devices were\n%s\nand are\n%s", before, after)
	}
}

// devices lists the network devices, where the system shows them.
func devices(t *testing.T) string {
	t.Helper()
	names, err := filepath.Glob("/sys/class/net/*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestValidateErrors(t *testing.T) {
	for _, test := range []struct{ name, app, want string }{
		{"null segment", `{"segments": {"a": null}}`, "segment a: the definition is null"},
		{"null bridge", `{"bridges": {"lan": null}}`, "bridge lan: the definition is null"},
		{"no address", `{"segments": {"a": {}}}`, "segment a: address is missing"},
		{"unknown field", `{"segments": {"a": {"colour": 2}}}`, `unknown field "colour"`},
		{"unknown segment", `{"segments": {"a": {"addresses": ["192.168.50.1/24"]}}, "bridges": {"lan":
			{"nic": "eth1", "addresses": ["192.168.1.2/24"], "lb_policy": {"policy": "first", "segments": ["c"]}}}}`,
			`unknown segment "c": the configuration has a`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := load(t, `{"apps": {"vnic": `+test.app+`}}`)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
		})
	}
}

// TestValidateListeners checks errors about listeners that Caddy alone would find only at the
// start.
func TestValidateListeners(t *testing.T) {
	t.Setenv("SEGMENT", "a")
	for listen, want := range map[string]string{
		"vnic/a:80":             "",
		"vnic/{env.SEGMENT}:80": "",
		":8080":                 "",
		"a:80":                  "", // it may be a host
		"vnic/c:80":             `listening on vnic/c:80: unknown segment "c": the configuration has a, b`,
		"VNIC/c:80":             `unknown segment "c": the configuration has a, b`,
		"vnic/:80":              `unknown segment "": the configuration has a, b`,
		"vnic+udp/c:80":         `unknown segment "c": the configuration has a, b`,
		"vnic-a:80":             "listening on vnic-a:80: vnic-a is no address, but the VNIC of segment a: use `bind vnic/a`",
		"tcp/eth9:80-81":        "eth9 is no address, but the VNIC of segment b: use `bind vnic/b`",
	} {
		t.Run(listen, func(t *testing.T) {
			err := load(t, `{"apps": {"vnic": {"segments": {"a": {"addresses": ["192.168.50.1/24"]},
				"b": {"addresses": ["192.168.60.1/24"], "interface": "eth9"}}},
				"http": {"servers": {"site": {"listen": ["vnic/b:80", "`+listen+`"]}}}}}`)
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("the error is %v, want %q", err, want)
			}
		})
	}
}

func TestListenErrors(t *testing.T) {
	const with = `{"apps": {"vnic": {"segments": {"a": {"addresses": ["192.168.50.1/24"]}}}}}`
	for _, test := range []struct {
		name, address, config, want string
	}{
		{"unknown segment", "vnic/b:80", with, `unknown segment "b": the configuration has a`},
		{"unknown segment, UDP", "vnic+udp/b:80", with, `unknown segment "b": the configuration has a`},
		{"no segment named", "vnic/:80", with, `unknown segment "": the configuration has a`},
		{"port 0", "vnic/a:0", with, "port 0: a segment's port must be known"},
		{"no vnic app", "vnic/a:80", "{}", "the configuration has no segments: add the global option vnic"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var config caddy.Config
			if err := json.Unmarshal([]byte(test.config), &config); err != nil {
				t.Fatal(err)
			}
			ctx, err := caddy.ProvisionContext(&config)
			if err != nil {
				t.Fatal(err)
			}
			expectListenError(t, ctx, test.address, test.want)
		})
	}
	t.Run("not an app", func(t *testing.T) {
		expectListenError(t, context.Background(), "vnic/a:80", "only an app of the configuration can listen on a segment")
	})
	if process.Configurations.Any() {
		t.Error("a configuration is in force")
	}
}

func expectListenError(t *testing.T, ctx context.Context, address, want string) {
	t.Helper()
	na, err := caddy.ParseNetworkAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	_, err = na.Listen(ctx, 0, net.ListenConfig{})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want %q", err, want)
	}
}
