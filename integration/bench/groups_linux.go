package main

import "context"

// groupVariants pass requests for a path on to the server of its group. The baseline, which
// comes first, is that server itself.
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

// serveGroups starts the server of the measured group: nginx with one worker. The baseline
// has no proxy to terminate TLS, so there another nginx serves HTTPS.
func serveGroups(ctx context.Context, s *site) error {
	if err := s.startBackend(); err != nil {
		return err
	}
	ports := []uint16{httpPort}
	if s.Name == baseline {
		if err := s.startHTTPSBackend(); err != nil {
			return err
		}
		ports = append(ports, httpsPort)
	}
	if err := s.waitServer(ctx, ports...); err != nil {
		return err
	}
	return s.check(ctx, "http", "https")
}
