package main

import (
	"context"
	"fmt"
)

// otherName is the host name of another segment, for which no client asks.
const otherName = "other.example.com"

// nameVariants bring a connection to the segment whose host name the client asks for. The
// baseline, which comes first, is that segment's server itself.
var nameVariants = []variant{
	{
		VariantInfo: VariantInfo{Name: baseline},
		start:       startDirect,
	},
	{
		VariantInfo: VariantInfo{Name: "kernel", Ours: true},
		bareNIC:     true,
		start:       startNames("kernel"),
	},
	{
		VariantInfo: VariantInfo{Name: "userspace", Ours: true},
		bareNIC:     true,
		start:       startNames("userspace"),
	},
	{
		VariantInfo: VariantInfo{Name: "haproxy"},
		tools:       []string{"haproxy"},
		start:       startHAProxyNames,
	},
	{
		VariantInfo: VariantInfo{Name: "nginx"},
		start:       startNginxNames,
	},
}

// namesConfig gives flows without a name to segment b, which has no server. So a client that
// gets an answer was steered by name; the proxies' configurations do the same.
const namesConfig = `{
	vnic {
		segment a {
			interface vnic-A
			address %[2]s
			ports tcp/80 tcp/443
		}
		segment b {
			interface vnic-B
			address %[3]s
			ports tcp/80 tcp/443
		}
		bridge lan {
			nic nic0
			address %[4]s
			gateway %[5]s
			steer a name ` + siteName + `
			steer b name ` + otherName + `
			lb_policy first b
		}
		datapath %[1]s
	}
}
`

func startNames(datapath string) func(context.Context, *site) error {
	return func(ctx context.Context, s *site) error {
		if err := s.startCaddy(ctx, fmt.Sprintf(namesConfig, datapath, s.inner, s.other, s.public, s.gateway.Addr())); err != nil {
			return err
		}
		return s.checkDatapath(ctx, datapath)
	}
}

// serveNames starts the measured segment's server: nginx with one worker, for HTTP and HTTPS.
// It has the certificate behind every variant. It gives out no session tickets, because wrk
// would resume a session with each new connection.
func serveNames(ctx context.Context, s *site) error {
	s.asksFor = siteName
	if err := s.startBackend(s.nginxHTTPS(s.listensOn) + ";\n\t\tssl_session_tickets off"); err != nil {
		return err
	}
	if err := s.waitServer(ctx, httpPort, httpsPort); err != nil {
		return err
	}
	return s.check(ctx, "http", "https")
}
