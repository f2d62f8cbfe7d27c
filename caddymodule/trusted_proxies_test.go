package caddymodule

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// frontSegments has a front of both families before segments of both and of either.
const frontSegments = `{"segments": {
	"a": {"addresses": ["192.168.50.1/24", "fd00:50::1/64"]},
	"four": {"addresses": ["192.168.60.1/24"]},
	"six": {"addresses": ["fd00:70::1/64"]},
	"inner": {"addresses": ["192.168.41.1/24"], "reach": ["a"]},
	"front": {"addresses": ["fd00:40::1/64", "192.168.40.1/24"], "reach": ["a", "four", "six", "inner"]}
}}`

// TestTrustedFronts checks that a segment trusts only the segments that may reach it, on all
// its ports and protocols.
func TestTrustedFronts(t *testing.T) {
	const v4, v6 = config.IPv4, config.IPv6
	var cfg caddy.Config
	if err := json.Unmarshal([]byte(`{"apps": {"vnic": `+frontSegments+`}}`), &cfg); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	source := new(FrontIPRange)
	if err := source.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	app, err := appOf(ctx)
	if err != nil {
		t.Fatal(err)
	}
	alias := func(front, segment string, f config.Family) net.Addr {
		alias, ok := app.PeerAlias(front, segment, f)
		if !ok {
			t.Fatalf("%s has no %s alias for %s", front, f, segment)
		}
		return &net.TCPAddr{IP: alias.AsSlice(), Port: 80}
	}
	for _, test := range []struct {
		local net.Addr
		want  []string
	}{
		{&net.TCPAddr{IP: net.IPv4(192, 168, 50, 1), Port: 80}, []string{"192.168.40.1/32", "192.168.41.1/32"}},
		{&net.UDPAddr{IP: net.IPv4(192, 168, 50, 1), Port: 443}, []string{"192.168.40.1/32", "192.168.41.1/32"}},
		{&net.TCPAddr{IP: net.IPv4(192, 168, 41, 1), Port: 80}, []string{"192.168.40.1/32"}},
		{&net.TCPAddr{IP: net.IPv4(192, 168, 40, 1), Port: 80}, nil},
		{&net.TCPAddr{IP: net.ParseIP("fd00:50::1"), Port: 80}, []string{"fd00:40::1/128"}},
		{&net.UDPAddr{IP: net.ParseIP("fd00:70::1"), Port: 443}, []string{"fd00:40::1/128"}},
		{&net.TCPAddr{IP: net.ParseIP("fd00:40::1"), Port: 80}, nil},
		{alias("front", "a", v4), []string{"192.168.40.1/32"}},
		{alias("front", "a", v6), []string{"fd00:40::1/128"}},
		{alias("front", "four", v4), []string{"192.168.40.1/32"}},
		{alias("front", "six", v6), []string{"fd00:40::1/128"}},
		{alias("inner", "a", v4), []string{"192.168.41.1/32"}},
		{alias("front", "inner", v4), []string{"192.168.40.1/32"}},
		{&net.TCPAddr{IP: net.IPv4(192, 168, 1, 2), Port: 80}, nil},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}, nil},
		{&net.UnixAddr{Name: "/run/a.sock"}, nil},
	} {
		r, err := http.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, test.local), http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, prefix := range source.GetIPRanges(r) {
			got = append(got, prefix.String())
		}
		if slices.Sort(got); !slices.Equal(got, test.want) {
			t.Errorf("at %s it trusts %v, want %v", test.local, got, test.want)
		}
	}
}
