package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
)

// files are what the HTTP server serves, by name, with their sizes.
var files = map[string]int{"1k": 1 << 10, "1m": 1 << 20}

// groupPath is where the files are: the path of the group that is measured.
const groupPath = "/test1/"

// writeFiles writes them.
func writeFiles(dir string) error {
	dir = filepath.Join(dir, groupPath)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, size := range files {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// backendConfig is the HTTP server's: as little as possible beside the
// network's work, one worker, and connections that last as long as the client
// wants.
const backendConfig = `
user root;
pid %[1]s/backend.pid;
error_log %[1]s/backend.log;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	open_file_cache max=16;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s:80 backlog=4096;
		%[4]s
		root %[3]s;
	}
}
`

// nginxHTTPS is a server's HTTPS beside its HTTP, with the cipher suite that Caddy
// chooses. HTTP/2 connections last as long as the client wants, too.
const nginxHTTPS = `listen %[1]s:443 ssl http2 backlog=4096;
		ssl_certificate %[2]s;
		ssl_certificate_key %[3]s;
		ssl_protocols TLSv1.3;
		ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;`

func (s *site) nginxHTTPS(on netip.Addr) string {
	return fmt.Sprintf(nginxHTTPS, on, s.bench.path(certificateFile), s.bench.path(keyFile))
}

func (s *site) startBackend(https bool) error {
	more := ""
	if https {
		more = s.nginxHTTPS(s.inner)
	}
	config, err := s.write("backend.conf", fmt.Sprintf(backendConfig, s.dir, s.inner, s.bench.files, more))
	if err != nil {
		return err
	}
	nginx := exec.Command("nginx", "-c", config, "-e", filepath.Join(s.dir, "backend.log"), "-g", "daemon off; master_process off;")
	_, err = s.server.Start(nginx)
	return err
}

func (s *site) checkFile(ctx context.Context, url string, size int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := s.client.HTTPClient()
	// The certificate is nobody's: it is for this run.
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || n != int64(size)) {
		err = fmt.Errorf("%s with %d bytes, want 200 OK with %d", answer.Status, n, size)
	}
	return err
}
