package integration_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows N1, N2 and N10: Chromium shows the site of the name, whichever segment serves it, over TCP
// and, if it is told to, over QUIC.
func TestBrowserByName(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.startByName(datapath)
		sites := map[string]string{"a.example.com": "a", "www.b.example.com": "b"}
		var keys []string
		for host := range sites {
			keys = append(keys, s.keyAt(host))
		}
		for host, segment := range sites {
			for protocol, flags := range map[string][]string{
				"HTTP/2.0": {"--disable-quic"}, "HTTP/3.0": {"--origin-to-force-quic-on=" + host + ":443"},
			} {
				dom := s.dumpDOM("https://"+host+"/", keys, append(flags, "--host-resolver-rules=MAP * 192.168.1.2")...)
				if want := fmt.Sprintf("%s %s %s", segment, paper.PC1Addr, protocol); !strings.Contains(dom, want) {
					t.Errorf("%s: the browser does not show %q but\n%s", host, want, dom)
				}
			}
		}
	})
}

// keyAt returns the hash of the public key of a site's certificate, as Chromium takes it. The
// client is Go's, whose hello has a post-quantum key share and does not fit one packet.
func (s *scene) keyAt(host string) string {
	s.t.Helper()
	raw, err := s.PC1.DialContext(s.t.Context(), "tcp4", "192.168.1.2:443")
	if err != nil {
		s.t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: host, InsecureSkipVerify: true}) // only its key is of interest
	if err := conn.Handshake(); err != nil {
		s.t.Fatal(err)
	}
	leaf := conn.ConnectionState().PeerCertificates[0]
	if err := leaf.VerifyHostname(host); err != nil {
		s.t.Fatal(err)
	}
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(key[:])
}

// Rows N2 and N9: openssl's client reaches servers that nobody here wrote, each with a key of its
// own: openssl's in one segment, and nginx in the other.
func TestServersByName(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.start(caddyfile{
			datapath: datapath, a: "ports tcp/443", b: "ports tcp/443",
			policy: "steer a name a.example.com\nsteer b name b.example.com\nlb_policy first a",
		})
		certificate, key := s.selfSigned("b.example.com")
		s.startNginxThat("192.168.60.1:8080", fmt.Sprintf("listen 192.168.60.1:443 ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate %s; ssl_certificate_key %s; return 200 b;", certificate, key))
		certificate, key = s.selfSigned("a.example.com")
		if _, err := s.Server.Start(exec.Command("openssl", "s_server", "-accept", "192.168.50.1:443", "-cert", certificate, "-key", key, "-www")); err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"a.example.com", "b.example.com"} {
			for _, version := range []string{"-tls1_2", "-tls1_3"} {
				s.waitFor(fmt.Sprintf("%s with %s", host, version), func() bool {
					output, err := s.PC1.Run(t.Context(), "openssl", "s_client", "-connect", "192.168.1.2:443", "-servername", host, version)
					return err == nil && strings.Contains(string(output), "subject=CN = "+host)
				})
			}
		}
	})
}

// Rows N2, N5 and N9: HAProxy, which terminates TLS in a segment, sees the client's own address, and
// the client its certificate, over both families and both versions of HTTP.
func TestHAProxyByName(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{
			datapath: datapath, families: "46", b: "ports tcp/443\nclient_ip preserve", policy: "steer b name b.example.com\nlb_policy first a",
		})
		root := s.startHAProxy("b.example.com", "192.168.60.1:443", "[fd00:60::1]:443")
		for _, at := range []struct{ address, client netip.Addr }{{paper.PseudoAddr, paper.PC1Addr}, {paper.PseudoAddr6, paper.PC1Addr6}} {
			for _, version := range []string{"--http1.1", "--http2"} {
				got := s.run(s.PC1, "curl", "-sS", "--max-time", "10", "--cacert", root, version, "--connect-to", "::["+at.address.String()+"]:",
					"-w", " HTTP/%{http_version}", "https://b.example.com/")
				want := fmt.Sprintf("HAProxy sees %s HTTP/%s", at.client, map[string]string{"--http1.1": "1.1", "--http2": "2"}[version])
				if got != want {
					t.Errorf("%s with %s: got %q, want %q", at.address, version, got, want)
				}
			}
		}
	})
}

// startHAProxy starts HAProxy on the server, with a certificate of its own for a host, and returns
// the file of that. It tells clients their address.
func (s *scene) startHAProxy(host string, addresses ...string) (certificate string) {
	s.t.Helper()
	certificate, key := s.selfSigned(host)
	both := s.write(host+".pem", s.run(s.Server, "cat", certificate, key))
	config := "defaults\n\tmode http\n\ttimeout client 30s\n\ttimeout server 30s\n\ttimeout connect 5s\nfrontend f\n"
	for _, address := range addresses {
		config += fmt.Sprintf("\tbind %s ssl crt %s alpn h2,http/1.1\n", address, both)
	}
	config += "\thttp-request return status 200 content-type text/plain lf-string \"HAProxy sees %[src]\"\n"
	if _, err := s.Server.Start(exec.Command("haproxy", "-db", "-f", s.write("haproxy.cfg", config))); err != nil {
		s.t.Fatal(err)
	}
	for _, address := range addresses {
		s.waitFor("HAProxy on "+address, func() bool {
			conn, err := s.Server.DialContext(s.t.Context(), "tcp", address)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
	return certificate
}

// selfSigned returns the files of a new certificate for a host, and of its key.
func (s *scene) selfSigned(host string) (certificate, key string) {
	s.t.Helper()
	certificate, key = filepath.Join(s.dir, host+".crt"), filepath.Join(s.dir, host+".key")
	s.run(s.Server, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-subj", "/CN="+host, "-addext", "subjectAltName=DNS:"+host, "-keyout", key, "-out", certificate)
	return certificate, key
}

// Row N11: two segments obtain certificates for names of their own at once, one by HTTP-01 and one
// by TLS-ALPN-01, at the one address.
func TestSegmentsObtainCertificates(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		s.serveDNS(s.PC1, map[string]netip.Addr{
			"acme.example.com.": paper.PC1Addr, "a.example.com.": paper.PseudoAddr, "b.example.com.": paper.PseudoAddr,
		})
		program := s.withNameserver(paper.PC1Addr)
		root := s.startACMEServer(program)
		site := func(segment, without string) string {
			return fmt.Sprintf(`
%[1]s.example.com {
	bind vnic/%[1]s
	tls {
		issuer acme {
			dir https://acme.example.com/acme/local/directory
			trusted_roots %[2]s
			%[3]s
		}
	}
	respond "%[1]s"
}
`, segment, root, without)
		}
		config := caddyfile{
			datapath: datapath, a: wayOut, policy: "steer a name a.example.com\nsteer b name b.example.com\nlb_policy first a",
			global: "skip_install_trust", sites: site("a", "disable_tlsalpn_challenge") + site("b", "disable_http_challenge"),
		}
		if err := s.tryStartBy(program, config.String()); err != nil {
			t.Fatal(err)
		}
		for _, segment := range []string{"a", "b"} {
			s.wantPageOf(segment+".example.com", paper.PseudoAddr, root, segment)
		}
	})
}
