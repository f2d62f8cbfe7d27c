package main

import (
	"context"
	"fmt"
	"net/netip"
)

// groupVariants hand requests for a path on to the server of its group; the
// baseline, which is that server itself, comes first.
var groupVariants = []variant{
	{
		VariantInfo: VariantInfo{Name: baseline},
		start:       startDirect,
	},
	{
		VariantInfo: VariantInfo{Name: "kernel", Ours: true},
		bareNIC:     true,
		start:       startGroups("kernel", viaVNICProxy),
	},
	{
		VariantInfo: VariantInfo{Name: "userspace", Ours: true},
		bareNIC:     true,
		start:       startGroups("userspace", viaVNICProxy),
	},
	{
		VariantInfo: VariantInfo{Name: "stock-vnic", Ours: true},
		bareNIC:     true,
		start:       startGroups("kernel", viaReverseProxy),
	},
	{
		VariantInfo: VariantInfo{Name: "haproxy"},
		tools:       []string{"haproxy"},
		start:       startHAProxyGroups,
	},
	{
		VariantInfo: VariantInfo{Name: "nginx"},
		start:       startNginxGroups,
	},
	{
		VariantInfo: VariantInfo{Name: "caddy"},
		start:       startStockCaddy,
	},
}

// serveGroups starts the server of the group that is measured: nginx with one
// worker. Where nothing is in between another one does the HTTPS.
func serveGroups(ctx context.Context, s *site) error {
	if err := s.startBackend(); err != nil {
		return err
	}
	if s.Name == baseline {
		if err := s.startHTTPSBackend(); err != nil {
			return err
		}
		if err := waitTCP(ctx, s.server, netip.AddrPortFrom(s.inner, httpsPort)); err != nil {
			return fmt.Errorf("the HTTPS server does not come up: %w", err)
		}
	}
	if err := waitTCP(ctx, s.server, netip.AddrPortFrom(s.inner, httpPort)); err != nil {
		return fmt.Errorf("the server does not come up: %w", err)
	}
	return s.check(ctx, "http", "https")
}
