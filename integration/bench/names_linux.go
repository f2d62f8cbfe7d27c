package main

import (
	"context"
	"fmt"
	"os/exec"
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
		tools:       []string{"haproxy"}, noUDP: true,
		start: startHAProxyNames,
	},
	{
		VariantInfo: VariantInfo{Name: "nginx"},
		noUDP:       true, // no names of QUIC
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
			ports tcp/80 tcp/443 udp/443
		}
		segment b {
			interface vnic-B
			address %[3]s
			ports tcp/80 tcp/443 udp/443
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

// http3Server is a Caddy for HTTP/3 only, which nginx of Debian does not have.
const http3Server = `{
	admin off
	auto_https off
	skip_install_trust
	servers {
		protocols h3
	}
}
https://%s {
	bind %s
	tls %s %s
	root %s
	file_server
}
`

func (s *site) startHTTP3Backend() error {
	config, err := s.write("http3.Caddyfile", fmt.Sprintf(http3Server, siteName, s.listensOn, s.bench.path(certificateFile), s.bench.path(keyFile), s.bench.files))
	if err != nil {
		return err
	}
	_, err = s.inside.Start(exec.Command(s.bench.caddy, "run", "--config", config, "--adapter", "caddyfile"))
	return err
}

// serveNames starts the measured segment's servers: nginx with one worker, for HTTP and HTTPS, and
// Caddy for HTTP/3. They have the certificate behind every variant. nginx gives out no session
// tickets, because wrk would resume a session with each new connection.
func serveNames(ctx context.Context, s *site) error {
	s.asksFor = siteName
	if err := s.startBackend(s.nginxHTTPS(s.listensOn) + ";\n\t\tssl_session_tickets off"); err != nil {
		return err
	}
	if err := s.startHTTP3Backend(); err != nil {
		return err
	}
	if err := s.waitServer(ctx, httpPort, httpsPort); err != nil {
		return err
	}
	return s.check(ctx, "http", "https")
}
