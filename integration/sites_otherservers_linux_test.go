package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows F9 and F11: any program serves a segment by binding its address. What
// `ports` names enters, and nothing else: that is refused at once.
func TestOtherServers(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{NAT: true})
		config := caddyfile{
			datapath: datapath, a: "ports tcp/80", b: "ports tcp/7000 udp/7000",
			policy: "steer b port tcp/7000 udp/7000\nlb_policy first a", sites: "# none",
		}
		s.start(config)
		s.startNginx("192.168.50.1:80", "nginx for $remote_addr")
		s.listen(s.Server, "192.168.60.1:7000", say("b"))
		s.echoUDP(s.Server, "192.168.60.1:7000")
		s.listen(s.Server, "192.168.50.1:81", say("not to be heard"))

		if got := s.get("http://192.168.1.2/"); got != "nginx for 192.168.50.2" {
			t.Errorf("port 80 says %q", got)
		}
		if got, err := hear(s.PC1, "192.168.1.2:7000", 5*time.Second); err != nil || got != "b" {
			t.Errorf("port 7000 says %q (%v)", got, err)
		}
		if err := s.ask("192.168.1.2:7000"); err != nil {
			t.Errorf("UDP port 7000: %v", err)
		}
		s.wantRefused("192.168.1.2:81")
		s.wantCurlRefused("http://192.168.1.2:7001/")

		// Without `ports` it is what Caddy serves that may enter, and Caddy
		// serves nothing here.
		config.b = ""
		s.load(config)
		s.wantRefused("192.168.1.2:7000")
		if err := s.ask("192.168.1.2:7000"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("UDP port 7000 without ports: %v, want refused", err)
		}
		if got := s.status().Bridges["lan"].Drops["port_not_open"]; got != 4 {
			t.Errorf("%d flows were refused for their port, want 4", got)
		}
	})
}

// startNginx runs nginx on the server, which says one thing to every client.
func (s *scene) startNginx(address, answer string) *netlab.Process {
	s.t.Helper()
	return s.startNginxThat(address, fmt.Sprintf("return 200 %q;", answer))
}

// startNginxThat runs nginx on the server.
func (s *scene) startNginxThat(address, does string) *netlab.Process {
	s.t.Helper()
	return s.startNginxOn(s.Server, address, does)
}

// startNginxOn runs nginx on a host, as one process, so that it ends with the network, and waits
// until it listens.
func (s *scene) startNginxOn(h *netlab.Host, address, does string) *netlab.Process {
	s.t.Helper()
	config := s.write("nginx.conf", fmt.Sprintf(`
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		%[3]s
	}
}
`, s.dir, address, does))
	command := exec.Command("nginx", "-c", config, "-e", filepath.Join(s.dir, "nginx.log"), "-g", "daemon off; master_process off;")
	nginx, err := h.Start(command)
	if err != nil {
		s.t.Fatal(err)
	}
	s.waitFor("nginx on "+address, func() bool {
		conn, err := h.DialContext(s.t.Context(), networkOf("tcp", address), address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return nginx
}

// ask sends a datagram from PC1 and waits for its echo.
func (s *scene) ask(address string) error { return s.askFrom(s.PC1, address) }

func (s *scene) askFrom(h *netlab.Host, address string) error {
	return s.askWithin(h, address, 2*time.Second)
}

func (s *scene) askWithin(h *netlab.Host, address string, patience time.Duration) error {
	conn, err := h.DialContext(s.t.Context(), networkOf("udp", address), address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	answer := make([]byte, 100)
	n, err := conn.Read(answer)
	if err == nil && string(answer[:n]) != "hello" {
		err = fmt.Errorf("answered %q", answer[:n])
	}
	return err
}

// wantRefused checks that PC1 is refused at once.
func (s *scene) wantRefused(address string) {
	s.t.Helper()
	said, err := hear(s.PC1, address, 900*time.Millisecond) // less than a SYN's first timeout
	if !errors.Is(err, syscall.ECONNREFUSED) {
		s.t.Errorf("%s says %q (%v), want refused at once", address, said, err)
	}
}

// wantCurlRefused checks that curl says what it does of a closed port: exit
// status 7, not 28 for a timeout.
func (s *scene) wantCurlRefused(url string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 900*time.Millisecond)
	defer cancel()
	var exit *exec.ExitError
	if _, err := s.PC1.Run(ctx, "curl", "-sS", url); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		s.t.Errorf("curl %s: %v, want exit status 7", url, err)
	}
}
