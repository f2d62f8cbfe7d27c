package caddymodule

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestTrustedFronts checks that a segment trusts only the segments that may reach it, on all
// its ports and protocols.
func TestTrustedFronts(t *testing.T) {
	var config caddy.Config
	if err := json.Unmarshal([]byte(`{"apps": {"vnic": `+proxySegments+`}}`), &config); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&config)
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
	alias := func(front, segment string) net.Addr {
		alias, _ := app.PeerAlias(front, segment)
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
		{alias("front", "a"), []string{"192.168.40.1/32"}},
		{alias("inner", "a"), []string{"192.168.41.1/32"}},
		{alias("front", "inner"), []string{"192.168.40.1/32"}},
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
