package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// nginxConfig configures nginx in any of its roles; %[3]s is the role's part. As in nginx's
// packages, there is a worker for each core. Their connections suffice for the benchmark.
const nginxConfig = `
%[4]s
user root;
pid %[1]s/%[2]s.pid;
error_log %[1]s/%[2]s.log;
worker_processes auto;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
%[3]s
`

// nginxHTTP is the part of an HTTP server. Its connections last as long as the client wants.
const nginxHTTP = `http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/%[2]s-body;
	proxy_temp_path %[1]s/%[2]s-proxy;
	fastcgi_temp_path %[1]s/%[2]s-fastcgi;
	uwsgi_temp_path %[1]s/%[2]s-uwsgi;
	scgi_temp_path %[1]s/%[2]s-scgi;
	%[3]s
}`

// writeNginx writes the configuration of an nginx that serves HTTP.
func (s *site) writeNginx(name, servers string) (string, error) {
	return s.write(name+".conf", fmt.Sprintf(nginxConfig, s.dir, name, s.nginxHTTP(name, servers), ""))
}

// writeNginxStream writes the configuration of an nginx that proxies TCP and UDP.
func (s *site) writeNginxStream(name, servers string) (string, error) {
	return s.writeNginxBoth(name, "", servers)
}

// writeNginxBoth writes the configuration of an nginx that has an HTTP part, and proxies TCP
// and UDP.
func (s *site) writeNginxBoth(name, http, streams string) (string, error) {
	return s.write(name+".conf", fmt.Sprintf(nginxConfig, s.dir, name, http+"\nstream {"+streams+"}", loadStream()))
}

func (s *site) nginxHTTP(name, servers string) string {
	return fmt.Sprintf(nginxHTTP, s.dir, name, servers)
}

// nginxHTTPS makes a server listen for HTTPS, with the cipher suite that Caddy chooses.
const nginxHTTPS = `%s:443 ssl http2 backlog=4096;
		ssl_certificate %s;
		ssl_certificate_key %s;
		ssl_protocols TLSv1.3;
		ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256`

func (s *site) nginxHTTPS(on netip.Addr) string {
	return fmt.Sprintf(nginxHTTPS, netlab.URLHost(on), s.bench.path(certificateFile), s.bench.path(keyFile))
}

// nginxWithWorkers returns nginx as a command. It runs in a PID namespace of its own, so that
// the workers end with the master, even if the master is killed.
func (s *site) nginxWithWorkers(name, config string) *exec.Cmd {
	nginx := exec.Command("nginx", "-c", config, "-e", s.path(name+".log"), "-g", "daemon off;")
	nginx.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	return nginx
}

// streamModule is the stream proxy of Debian's libnginx-mod-stream. Some builds of nginx have
// it built in and need no module.
const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

func loadStream() string {
	if _, err := os.Stat(streamModule); err != nil {
		return ""
	}
	return "load_module " + streamModule + ";"
}
