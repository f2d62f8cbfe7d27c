package main

import (
	"context"
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// haproxyConfig sets no number of threads, so haproxy has one for each core.
const haproxyConfig = `
global
	maxconn 8192
defaults
	mode tcp
	timeout connect 5s
	timeout client 1m
	timeout server 1m
listen http
	bind %[1]s:80 backlog 4096
	server a %[2]s:80
listen iperf3
	bind %[1]s:5201
	server a %[2]s:5201
listen echo
	bind %[1]s:7
	server a %[2]s:7
`

func startHAProxy(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	return s.startHAProxy(fmt.Sprintf(haproxyConfig, netlab.URLHost(s.public.Addr()), netlab.URLHost(s.inner.Addr())))
}

// startHAProxy starts haproxy as the variant's data plane.
func (s *site) startHAProxy(config string) error {
	path, err := s.write("haproxy.cfg", config)
	if err != nil {
		return err
	}
	_, err = s.startPlane(exec.Command("haproxy", "-db", "-f", path))
	return err
}

// proxyConfig fills in the configuration of a proxy that chooses between two servers: the
// address that clients use, those of the servers, and, for a proxy that terminates TLS, what
// its configuration says of TLS.
func (s *site) proxyConfig(config string, tls ...any) string {
	addresses := []any{netlab.URLHost(s.public.Addr()), netlab.URLHost(s.inner.Addr()), netlab.URLHost(s.other.Addr())}
	return fmt.Sprintf(config, append(addresses, tls...)...)
}

// nginxStreams has the server's ports. The discard service sends no answers, so nginx must
// not wait for any.
const nginxStreams = `
	server { listen %[1]s:80 backlog=4096; proxy_pass %[2]s:80; }
	server { listen %[1]s:5201; proxy_pass %[2]s:5201; }
	server { listen %[1]s:7; proxy_pass %[2]s:7; }
	server { listen %[1]s:7 udp reuseport; proxy_pass %[2]s:7; proxy_timeout 10s; }
	server { listen %[1]s:9 udp reuseport; proxy_pass %[2]s:9; proxy_timeout 10s; proxy_responses 0; }
`

func startNginxStream(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	config, err := s.writeNginxStream("stream", fmt.Sprintf(nginxStreams, netlab.URLHost(s.public.Addr()), netlab.URLHost(s.inner.Addr())))
	if err != nil {
		return err
	}
	process, err := s.startPlane(s.nginxWithWorkers("stream", config))
	if err != nil {
		return err
	}
	s.reload = signalPlane(process, unix.SIGHUP)
	return nil
}
