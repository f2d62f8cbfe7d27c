package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// files has the sizes in bytes of the files that the HTTP server serves, by name.
var files = map[string]int{"1k": 1 << 10, "1m": 1 << 20}

// groupPath is the URL path of the files, and that of the measured group.
const groupPath = "/test1/"

// writeFiles writes the files that the HTTP server serves.
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

// fileServer is the HTTP server's part of nginx's configuration. It serves with as little
// work as possible, so that the network's part of the cost is large.
const fileServer = `server {
		listen %s;
		root %s;
		sendfile on;
		tcp_nopush on;
		open_file_cache max=16;
	}`

// startBackend starts the HTTP server, with one worker. more is what it listens to in addition.
func (s *site) startBackend(more ...string) error {
	listens := append([]string{s.innerPort(httpPort).String() + " backlog=4096"}, more...)
	config, err := s.writeNginx("backend", fmt.Sprintf(fileServer, strings.Join(listens, ";\n\t\tlisten "), s.bench.files))
	if err != nil {
		return err
	}
	_, err = s.inside.Start(exec.Command("nginx", "-c", config, "-e", s.path("backend.log"), "-g", "daemon off; master_process off;"))
	return err
}

// startHTTPSBackend starts another server, for HTTPS. It has a worker for each core, as the
// proxies have that terminate TLS in other variants.
func (s *site) startHTTPSBackend() error {
	config, err := s.writeNginx("https", fmt.Sprintf(fileServer, s.nginxHTTPS(s.listensOn), s.bench.files))
	if err != nil {
		return err
	}
	_, err = s.server.Start(s.nginxWithWorkers("https", config))
	return err
}

func (s *site) checkFile(ctx context.Context, url string, size int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := s.client.HTTPClient()
	transport := client.Transport.(*http.Transport)
	// The certificate was made for this run, and nobody has signed it.
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	transport.DialContext = func(ctx context.Context, network, at string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(at)
		if err != nil {
			return nil, err
		}
		return s.client.DialContext(ctx, network, net.JoinHostPort(s.public.Addr().String(), port)) // no DNS knows the name
	}
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
