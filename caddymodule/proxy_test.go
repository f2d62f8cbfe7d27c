package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/fastcgi"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// proxySegments has two fronts, one behind the other, and a segment that neither may reach.
const proxySegments = `{"segments": {
	"a": {"addresses": ["192.168.50.1/24"], "ports": ["tcp/80"]},
	"b": {"addresses": ["192.168.60.1/24"]},
	"c": {"addresses": ["192.168.70.1/24"]},
	"inner": {"addresses": ["192.168.41.1/24"], "reach": ["a"], "netns": "inner"},
	"front": {"addresses": ["192.168.40.1/24"], "reach": ["a", "b", "inner"]}
}}`

func TestProxyErrors(t *testing.T) {
	for _, test := range []struct{ name, listen, fields, want string }{
		{"unknown segment", `"vnic/front:80"`, `"upstreams": [{"dial": "d:80"}]`, `unknown segment "d": the configuration has a, b, c, front, inner`},
		{"unknown segment's site", `"vnic/d:80"`, `"upstreams": [{"dial": "a:80"}]`, `unknown segment "d"`},
		{"placeholder", `"vnic/front:80"`, `"upstreams": [{"dial": "{http.vars.group}:80"}]`, `unknown segment "{http.vars.group}"`},
		{"not in reach", `"vnic/front:80"`, `"upstreams": [{"dial": "c:80"}]`, "segment front, to which the site is bound, may not reach segment c: add `reach c` to it"},
		{"backwards", `"vnic/a:80"`, `"upstreams": [{"dial": "front:80"}]`, "may not reach segment front"},
		{"itself", `"vnic/front:80"`, `"upstreams": [{"dial": "front:80"}]`, "may not reach segment front"},
		{"health check elsewhere", `"vnic/front:80"`, `"upstreams": [{"dial": "a:80"}], "health_checks": {"active": {"uri": "/", "upstream": "c:80"}}`, "may not reach segment c"},
		{"closed port", `"vnic/front:80"`, `"upstreams": [{"dial": "a:8080"}]`, "the ports of segment a do not let tcp/8080 in"},
		{"no segment's site", `":8080"`, `"upstreams": [{"dial": "a:80"}]`, "the site listens on :8080, not on a segment: add `bind vnic/<segment>` to it"},
		{"two segments' site", `"vnic/front:80", "vnic/inner:80"`, `"upstreams": [{"dial": "a:80"}]`, "the site is bound to the segments front and inner"},
		{"unix socket", `"vnic/front:80"`, `"upstreams": [{"dial": "unix//run/a.sock"}]`, `upstream "unix//run/a.sock": want <segment> or <segment>:<port>`},
		{"port range", `"vnic/front:80"`, `"upstreams": [{"dial": "a:80-81"}]`, "want <segment> or <segment>:<port>"},
		{"no upstream", `"vnic/front:80"`, `"upstreams": []`, "want the segments to hand requests on to"},
		{"dynamic", `"vnic/front:80"`, `"dynamic_upstreams": {"source": "a", "name": "a", "port": "80"}`, "cannot be dynamic"},
		{"unknown field", `"vnic/front:80"`, `"colour": "red"`, `unknown field "colour"`},
		{"HTTP/3 in a netns", `"vnic/inner:80"`, `"upstreams": [{"dial": "a:80"}], "transport": {"protocol": "http", "tls": {}, "versions": ["3"]}`, "HTTP/3 to a segment is not supported"},
		{"FastCGI in a netns", `"vnic/inner:80"`, `"upstreams": [{"dial": "a:80"}], "transport": {"protocol": "fastcgi"}`, "the transport must be http, because segment inner lives in netns inner"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := loadProxy(t, test.listen, test.fields)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
		})
	}
	t.Run("no vnic app", func(t *testing.T) {
		err := load(t, `{"apps": {"http": {"servers": {"s": {"listen": [":8080"], "routes": [{"handle": [
			{"handler": "vnic_proxy", "upstreams": [{"dial": "a:80"}]}]}]}}}}}`)
		if err == nil || !strings.Contains(err.Error(), "add the global option vnic") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestProxyDials checks that a front dials a segment at the alias that it has for it: that of
// IPv4 if both segments have an IPv4 address.
func TestProxyDials(t *testing.T) {
	var cfg caddy.Config
	if err := json.Unmarshal([]byte(`{"apps": {"vnic": `+frontSegments+`}}`), &cfg); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	app, err := appOf(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{segments: make(map[string]string)}
	for segment, f := range map[string]config.Family{"a": config.IPv4, "four": config.IPv4, "six": config.IPv6} {
		alias, _ := app.PeerAlias("front", segment, f)
		dial := segment + ":8080"
		if err := p.resolve(app, "front", &dial); err != nil {
			t.Fatal(err)
		}
		if want := netip.AddrPortFrom(alias, 8080).String(); dial != want || p.segments[dial] != segment {
			t.Errorf("%s (%s) is dialed at %s, want %s", segment, p.segments[dial], dial, want)
		}
	}
}

func TestProxyTransports(t *testing.T) {
	for _, transport := range []string{
		`{"protocol": "http", "read_buffer": 4096}`,
		`{"protocol": "http", "proxy_protocol": "v2", "tls": {}}`,
		`{"protocol": "fastcgi"}`,
	} {
		err := loadProxy(t, `"vnic/front:80", "127.0.0.1:80"`, `"upstreams": [{"dial": "a"}], "transport": `+transport)
		if misspelt := strings.Contains(transport, "read_buffer\""); misspelt != (err != nil) {
			t.Errorf("%s: %v", transport, err)
		}
	}
}

func loadProxy(t *testing.T, listen, fields string) error {
	t.Helper()
	return load(t, fmt.Sprintf(`{"apps": {"vnic": %s, "http": {"servers": {"s": {"listen": [%s],
		"routes": [{"handle": [{"handler": "vnic_proxy", %s}]}]}}}}}`, proxySegments, listen, fields))
}
