package caddymodule

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// namedSites are sites of a front and two segments. One server has a site of both segments, and
// Caddy adds redirects for the names of both to it.
const namedSites = `{
	skip_install_trust
	vnic {
		segment front {
			address 192.168.40.1/24
			reach a
		}
		segment a {
			address 192.168.50.1/24
		}
		segment b {
			address 192.168.60.1/24
		}
		bridge lan {
			nic eth1
			address 192.168.1.2/24
			steer sites
			steer front port tcp/80 tcp/443
		}
	}
	servers {
		trusted_proxies vnic # looks up the app while the http app is being provisioned
	}
}
www.example.com {
	bind vnic/front
	tls internal
	vnic_proxy a
}
http://www.example.com {
	bind vnic/a
}
bücher.example, *.A.example.com:8443, {env.VNIC_TEST_SITE} {
	bind vnic/a
	tls internal
	@no host no.example.com
	respond @no "this is no site's name"
}
b.example.com {
	bind vnic/b
	tls internal
}
http://plain.example.com {
	bind vnic/a vnic/b
}
http://, https://192.168.60.1 {
	bind vnic/b
	tls internal
}
`

// Row N11: the app finds the host names of the configuration's sites.
func TestSteerSites(t *testing.T) {
	t.Setenv("VNIC_TEST_SITE", "env.example.com")
	adapted, err := adapt(namedSites)
	if err != nil {
		t.Fatal(err)
	}
	var config caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	config.StorageRaw = json.RawMessage(fmt.Sprintf(`{"module": "file_system", "root": %q}`, t.TempDir()))
	ctx, err := caddy.ProvisionContext(&config)
	if err != nil {
		t.Fatal(err)
	}
	app, err := appOf(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range app.Bridges["lan"].Rules() {
		got = append(got, fmt.Sprintf("%s %s %s", r.Segment, strings.Join(r.Names, ","), r.Ports))
	}
	want := []string{
		"a *.a.example.com [tcp/80 tcp/8443 udp/8443]",
		"a env.example.com,xn--bcher-kva.example [tcp/80 tcp/443 udp/443]",
		"b b.example.com [tcp/80 tcp/443 udp/443]",
		"front www.example.com [tcp/80 tcp/443 udp/443]",
		"front  [tcp/80 tcp/443]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
