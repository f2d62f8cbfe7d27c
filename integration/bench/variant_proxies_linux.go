package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// haproxyConfig leaves the number of threads to haproxy: one for each core.
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

// nginxConfig has a worker for each core, as nginx's packages have it. What goes
// to the discard service has no answers to wait for.
const nginxConfig = `
%[2]s
user root;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
worker_processes auto;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
stream {
	server { listen 192.168.1.2:80 backlog=4096; proxy_pass 192.168.50.1:80; }
	server { listen 192.168.1.2:5201; proxy_pass 192.168.50.1:5201; }
	server { listen 192.168.1.2:7; proxy_pass 192.168.50.1:7; }
	server { listen 192.168.1.2:7 udp reuseport; proxy_pass 192.168.50.1:7; proxy_timeout 10s; }
	server { listen 192.168.1.2:9 udp reuseport; proxy_pass 192.168.50.1:9; proxy_timeout 10s; proxy_responses 0; }
}
`

func startNginxStream(_ context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	process, err := s.startNginx(fmt.Sprintf(nginxConfig, s.dir, loadStream()))
	if err != nil {
		return err
	}
	s.reload = signalPlane(process, unix.SIGHUP)
	return nil
}

// startNginx starts nginx as the variant's data plane.
func (s *site) startNginx(config string) (*integration.Process, error) {
	path, err := s.write("nginx.conf", config)
	if err != nil {
		return nil, err
	}
	nginx := exec.Command("nginx", "-c", path, "-e", filepath.Join(s.dir, "nginx.log"), "-g", "daemon off;")
	// In a PID namespace of its own the workers end with the master, whatever
	// ends it.
	nginx.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	return s.startPlane(nginx)
}

// streamModule is where Debian's libnginx-mod-stream puts the stream proxy. An
// nginx that has it built in needs no module.
const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

func loadStream() string {
	if _, err := os.Stat(streamModule); err != nil {
		return ""
	}
	return "load_module " + streamModule + ";"
}
