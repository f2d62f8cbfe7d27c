package main

import (
	"context"
	"os/exec"

	"golang.org/x/sys/unix"
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
	bind 192.168.1.2:80 backlog 4096
	server a 192.168.50.1:80
listen iperf3
	bind 192.168.1.2:5201
	server a 192.168.50.1:5201
listen echo
	bind 192.168.1.2:7
	server a 192.168.50.1:7
`

func startHAProxy(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	config, err := s.write("haproxy.cfg", haproxyConfig)
	if err != nil {
		return err
	}
	_, err = s.startPlane(exec.Command("haproxy", "-db", "-f", config))
	return err
}

// nginxStreams has the server's ports. The discard service sends no answers, so nginx must
// not wait for any.
const nginxStreams = `
	server { listen 192.168.1.2:80 backlog=4096; proxy_pass 192.168.50.1:80; }
	server { listen 192.168.1.2:5201; proxy_pass 192.168.50.1:5201; }
	server { listen 192.168.1.2:7; proxy_pass 192.168.50.1:7; }
	server { listen 192.168.1.2:7 udp reuseport; proxy_pass 192.168.50.1:7; proxy_timeout 10s; }
	server { listen 192.168.1.2:9 udp reuseport; proxy_pass 192.168.50.1:9; proxy_timeout 10s; proxy_responses 0; }
`

func startNginxStream(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	config, err := s.writeNginxStream("stream", nginxStreams)
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
