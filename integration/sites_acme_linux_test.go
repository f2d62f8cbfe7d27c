package integration_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// frontCaddyfile is the paper's Fig-18: a front segment takes HTTP and HTTPS, and
// reaches the segments a and b.
type frontCaddyfile struct {
	datapath    string
	a, b, front string // further options of the segments, one a line
	bridge      string // further options of the bridge
	global      string // further global options
	sites       string
}

func (c frontCaddyfile) String() string {
	return fmt.Sprintf(`{
	skip_install_trust
	%s
	vnic {
		segment a {
			interface vnic-A
			address 192.168.50.1/24
			mac 50:01:02:03:04:05
			%s
		}
		segment b {
			interface vnic-B
			address 192.168.60.1/24
			%s
		}
		segment front {
			interface vnic-F
			address 192.168.40.1/24
			client_ip preserve
			reach a b
			%s
		}
		bridge lan {
			nic nic0
			address 192.168.1.2/24
			gateway 192.168.1.1
			steer front port tcp/80 tcp/443 udp/443
			%s
		}
		datapath %s
	}
}
%s`, c.global, c.a, c.b, c.front, c.bridge, c.datapath, c.sites)
}

const wayOut = "egress any\ndefault_route"

// A front gets its certificate from an ACME server beyond the router, finding the
// server by DNS: on a bare NIC all of that goes through the bridge. Each challenge
// is tried alone.
func TestFrontObtainsACertificate(t *testing.T) {
	ownWayOut := []string{"address add 192.168.1.3/24 dev nic0", "route add default via 192.168.1.1"}
	tests := []struct {
		name    string
		prepare []string // ip commands on the server
		front   string
		netns   bool // of the front
		issuer  string
		asker   string // of DNS queries
	}{
		{name: "HTTP-01", front: wayOut, issuer: "disable_tlsalpn_challenge", asker: "192.168.1.2"},
		{name: "TLS-ALPN-01", front: wayOut, issuer: "disable_http_challenge", asker: "192.168.1.2"},
		{name: "HTTP-01 in a netns", prepare: ownWayOut, front: "egress any", netns: true, issuer: "disable_tlsalpn_challenge", asker: "192.168.1.3"},
		{name: "TLS-ALPN-01 in a netns", prepare: ownWayOut, front: "egress any", netns: true, issuer: "disable_http_challenge", asker: "192.168.1.3"},
	}
	onEachDataPath(t, func(t *testing.T, datapath string) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, paper.NetworkOptions{})
				for _, args := range tt.prepare {
					s.ip(s.Server, args)
				}
				if tt.netns {
					tt.front += "\nnetns " + s.namespaces()["front"]
				}
				dns := s.serveDNS(s.PC1, map[string]netip.Addr{
					"acme.example.com.": paper.PC1Addr, "www.example.com.": paper.PseudoAddr,
				})
				program := s.withNameserver(paper.PC1Addr)
				root := s.startACMEServer(program)
				s.startFront(program, frontCaddyfile{datapath: datapath, front: tt.front, sites: fmt.Sprintf(`
www.example.com {
	bind vnic/front
	tls {
		issuer acme {
			dir https://acme.example.com/acme/local/directory
			trusted_roots %s
			%s
		}
	}
	respond "the front"
}
`, root, tt.issuer)})
				s.wantPage(root, "the front")
				if !dns.askedBy(netip.MustParseAddr(tt.asker)) {
					t.Errorf("the front's DNS queries did not come from %s", tt.asker)
				}
			})
		}
	})
}

// withNameserver returns a program that runs Caddy with a resolv.conf of its own,
// in a mount namespace as `ip netns exec` makes one, because network namespaces
// share that file.
func (s *scene) withNameserver(address netip.Addr) (program string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	resolv := s.write("resolv.conf", "nameserver "+address.String()+"\n")
	program = s.writeProgram("caddy.sh", fmt.Sprintf(`#!/bin/sh
exec unshare --mount sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' '%s' '%s' "$@"
`, resolv, self))
	return program
}

// startACMEServer runs a second Caddy on PC1 that is a certificate authority with
// an ACME server, and returns the file of its root certificate.
func (s *scene) startACMEServer(program string) (root string) {
	s.t.Helper()
	dir := s.t.TempDir()
	config := filepath.Join(dir, "Caddyfile")
	err := os.WriteFile(config, []byte(`
{
	skip_install_trust
}
acme.example.com {
	tls internal
	acme_server
}
`), 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	log := filepath.Join(dir, "caddy.log")
	caddy, err := s.PC1.StartCaddy(s.t.Context(), netlab.CaddyOptions{
		Program: program, Config: config, Log: log, State: dir, Env: []string{asCaddy},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("the ACME server's log ends so:\n%s", caddy.Log(40))
		}
	})
	root = filepath.Join(dir, "caddy/pki/authorities/local/root.crt")
	s.waitFor("the ACME server's root certificate", func() bool {
		_, err := os.Stat(root)
		return err == nil
	})
	return root
}

// startFront starts Caddy on the server from a front's Caddyfile.
func (s *scene) startFront(program string, config frontCaddyfile) {
	s.t.Helper()
	if err := s.tryStartBy(program, config.String()); err != nil {
		s.t.Fatal(err)
	}
}

// wantPage waits until PC1 gets a page of www.example.com over HTTPS, with a
// certificate under a given root.
func (s *scene) wantPage(root, page string) {
	s.t.Helper()
	s.wantPageAt(paper.PseudoAddr, root, page)
}

func (s *scene) wantPageAt(address netip.Addr, root, page string) {
	s.t.Helper()
	s.wantPageOf("www.example.com", address, root, page)
}

// wantPageOf is wantPage for any host at any address.
func (s *scene) wantPageOf(host string, address netip.Addr, root, page string) {
	s.t.Helper()
	client := s.PC1.HTTPClient()
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: rootsIn(s.t, root), ServerName: host}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got, err := getAs(client, host, "https://"+netlab.URLHost(address)+"/")
		if err == nil && got == page {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("PC1 gets %q (%v), want %q", got, err, page)
		}
	}
}

// rootsIn returns the root certificate of a file.
func rootsIn(t *testing.T, name string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", name)
	}
	return roots
}

// getAs fetches a page of a host by its name, whatever address stands in the URL.
func getAs(client *http.Client, host, url string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Host = host
	resp, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
