package integration_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// What Caddy does with a connection is the same on `bind vnic/a` as on a listener of a
// host that has the pseudo address itself, whatever of the connection it looks at.
func TestLikeAPlainListener(t *testing.T) {
	t.Parallel()
	want := make(map[string]string)
	plain := newPlainScene(t)
	for _, f := range features {
		plain.load(f)
		plain.waitFor(f.name+" on a plain listener", func() bool {
			got, err := f.probe(plain)
			want[f.name] = got
			return err == nil
		})
		t.Logf("%s: %s", f.name, want[f.name])
	}
	plain.stop()
	for _, clientIP := range []string{"translate", "preserve"} {
		t.Run(clientIP, func(t *testing.T) {
			t.Parallel()
			onEachDataPath(t, func(t *testing.T, datapath string) {
				s := &featureScene{scene: newScene(t, paper.NetworkOptions{}), datapath: datapath, clientIP: clientIP}
				s.serveFastCGI()
				s.begin()
				for _, f := range features {
					s.load(f)
					if got, err := s.until(f, want[f.name]); err != nil || got != want[f.name] {
						t.Errorf("%s:\n%s (%v)\non a plain listener:\n%s", f.name, got, err, want[f.name])
					}
				}
			})
		})
	}
}

// until asks until a feature is as it is wanted, for up to 5 s: certificates come a
// moment after the configuration is in force.
func (s *featureScene) until(f feature, want string) (got string, err error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got, err = f.probe(s); err == nil && got == want {
			return got, nil
		}
	}
	return got, err
}

// feature is something that Caddy does with connections.
type feature struct {
	name    string
	global  string // options
	servers string // the option's contents
	sites   string // with BIND where a site binds a segment, and BODY for what tells of the connection
	probe   func(*featureScene) (string, error)
}

const aboutConnection = `respond "{http.request.local} {http.request.local.host} {http.request.local.port} {remote_host} {client_ip} {host} {scheme} {http.request.proto}"`

const both = "https://192.168.1.2, https://www.example.com {\nBIND\ntls internal\nBODY\n}\n"

var features = []feature{
	// Those that want no certificate for the address come before it is in Caddy's cache.
	{
		name: "default_sni", global: "default_sni www.example.com", sites: "https://www.example.com {\nBIND\ntls internal\nBODY\n}",
		probe: secure(&tls.Config{}),
	},
	{
		name: "fallback_sni", global: "fallback_sni www.example.com", sites: "https://www.example.com {\nBIND\ntls internal\nBODY\n}",
		probe: secure(&tls.Config{ServerName: "other.example.com"}),
	},
	{
		name: "no certificate", sites: "https://www.example.com {\nBIND\ntls internal\nBODY\n}",
		probe: refused(&tls.Config{ServerName: "other.example.com"}),
	},
	{name: "HTTP", sites: "http:// {\nBIND\nBODY\n}", probe: web("http://192.168.1.2/", netlab.HTTP1)},
	{name: "a kept connection", sites: "http:// {\nBIND\nBODY\n}", probe: (*featureScene).keptAlive},
	{name: "HTTPS by address", sites: both, probe: web("https://192.168.1.2/", netlab.HTTP1)},
	{name: "HTTPS by name", sites: both, probe: web("https://www.example.com/", netlab.HTTP1)},
	{name: "HTTP/2 by address", sites: both, probe: web("https://192.168.1.2/", netlab.HTTP2)},
	{name: "HTTP/2 by name", sites: both, probe: web("https://www.example.com/", netlab.HTTP2)},
	{name: "HTTP/3 by address", sites: both, probe: web("https://192.168.1.2/", netlab.HTTP3)},
	{name: "HTTP/3 by name", sites: both, probe: web("https://www.example.com/", netlab.HTTP3)},
	{name: "h2c", servers: "protocols h1 h2c", sites: "http:// {\nBIND\nBODY\n}", probe: (*featureScene).h2c},
	{
		name: "a client's certificate", probe: (*featureScene).mutualTLS,
		sites: "https://www.example.com {\nBIND\ntls internal {\nclient_auth {\nmode require\n}\n}\nrespond {tls_client_subject}\n}",
	},
	{
		name: "the PROXY protocol", servers: "listener_wrappers {\nproxy_protocol {\nallow 0.0.0.0/0\n}\n}",
		sites: "http:// {\nBIND\nBODY\n}",
		probe: raw("80", "PROXY TCP4 203.0.113.9 198.51.100.1 4000 80\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
	},
	{
		name: "http_redirect", servers: "listener_wrappers {\nhttp_redirect\ntls\n}", sites: both,
		probe: raw("443", "GET / HTTP/1.1\r\nHost: www.example.com:443\r\nConnection: close\r\n\r\n"),
	},
	{name: "auto_https by address", sites: both, probe: raw("80", "GET /p HTTP/1.1\r\nHost: 192.168.1.2\r\nConnection: close\r\n\r\n")},
	{name: "auto_https by name", sites: both, probe: raw("80", "GET /p HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")},
	{
		name: "matchers", probe: web("http://192.168.1.2/", netlab.HTTP1), sites: `http:// {
			BIND
			@all {
				remote_ip 192.168.10.2
				client_ip 192.168.10.0/24
				vars {http.request.local.host} 192.168.1.2
				vars {http.request.local.port} 80
				expression ` + "`{http.request.local} == '192.168.1.2:80'`" + `
				not vars {http.request.remote.port} 0
			}
			vars @all seen all
			respond "{vars.seen}"
		}`,
	},
	{
		name: "templates", probe: web("http://192.168.1.2/", netlab.HTTP1),
		sites: "http:// {\nBIND\ntemplates\nheader Content-Type text/html\nrespond `{{.RemoteIP}} {{.ClientIP}} {{placeholder \"http.request.local\"}}`\n}",
	},
	{
		name: "trusted_proxies", servers: "trusted_proxies static 192.168.10.2", sites: "http:// {\nBIND\nBODY\n}",
		probe: raw("80", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n"),
	},
	{
		name: "request_body", sites: "http:// {\nBIND\nrequest_body {\nmax_size 3\n}\nrespond {http.request.body}\n}",
		probe: raw("80", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"),
	},
	{
		name: "timeouts", servers: "timeouts {\nread_header 200ms\n}", sites: "http:// {\nBIND\nBODY\n}",
		probe: raw("80", "GET / HTTP/1.1\r\nHost: a\r\n"),
	},
	{
		name: "FastCGI", sites: "http:// {\nBIND\nreverse_proxy 127.0.0.1:9000 {\ntransport fastcgi\n}\n}",
		probe: web("http://192.168.1.2/", netlab.HTTP1),
	},
	{name: "the access log", sites: "http:// {\nBIND\nlog\nBODY\n}", probe: (*featureScene).accessLog},
	{name: "metrics", global: "metrics", sites: "http:// {\nBIND\nBODY\n}", probe: (*featureScene).metrics},
	{
		name: "a certificate on demand", sites: "https:// {\nBIND\ntls internal {\non_demand\n}\nBODY\n}",
		probe: secure(&tls.Config{}),
	},
	{
		name: "a certificate on demand by HTTP/3", sites: "https:// {\nBIND\ntls internal {\non_demand\n}\nBODY\n}",
		probe: web("https://192.168.1.2/", netlab.HTTP3),
	},
}

// featureScene runs one feature after the other.
type featureScene struct {
	*scene
	datapath string // "" without segments
	clientIP string
	path     int
}

// newPlainScene is a server that has the pseudo address, and no segment.
func newPlainScene(t *testing.T) *featureScene {
	t.Helper()
	s := &featureScene{scene: newScene(t, paper.NetworkOptions{})}
	s.ip(s.Server, "address add 192.168.1.2/24 dev "+paper.NICDevice)
	s.ip(s.Server, "route add default via 192.168.1.1")
	s.serveFastCGI()
	s.begin()
	return s
}

func (s *featureScene) begin() {
	s.t.Helper()
	if err := s.tryStart(s.caddyfile(features[0])); err != nil {
		s.t.Fatal(err)
	}
}

func (s *featureScene) load(f feature) {
	s.t.Helper()
	if answer, err := s.postText(s.caddyfile(f)); err != nil || answer != "" {
		s.t.Fatalf("%s: %q (%v)", f.name, answer, err)
	}
}

func (s *featureScene) caddyfile(f feature) string {
	segments, bind := "", ""
	if s.datapath != "" {
		bind = "bind vnic/a"
		segments = fmt.Sprintf(`
	vnic {
		segment a {
			address 192.168.50.1/24
			client_ip %s
		}
		bridge lan {
			nic %s
			address 192.168.1.2/24
			gateway 192.168.1.1
			lb_policy first a
		}
		datapath %s
	}`, s.clientIP, paper.NICDevice, s.datapath)
	}
	sites := strings.NewReplacer("BIND", bind, "BODY", aboutConnection).Replace(f.sites)
	return fmt.Sprintf("{\n\tskip_install_trust\n\tgrace_period 1s\n%s%s\n\tservers {\n%s\n}\n}\n%s", f.global, segments, f.servers, sites)
}

// serveFastCGI answers with what FastCGI says about the connection.
func (s *featureScene) serveFastCGI() {
	l := s.listener(s.Server, "127.0.0.1:9000")
	s.t.Cleanup(func() { l.Close() })
	go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		env, host := fcgi.ProcessEnv(r), r.RemoteAddr
		host, _, _ = net.SplitHostPort(host)
		fmt.Fprint(w, env["SERVER_ADDR"], " ", env["SERVER_PORT"], " ", host)
	}))
}

// web reads a page.
func web(url, protocol string) func(*featureScene) (string, error) {
	return func(s *featureScene) (string, error) {
		opts := netlab.WebOptions{Protocol: protocol, Address: paper.PseudoAddr}
		if strings.HasPrefix(url, "https") {
			var err error
			if opts.Roots, err = s.caddy.Roots(); err != nil {
				return "", err
			}
		}
		client, err := s.PC1.WebClient(opts)
		if err != nil {
			return "", err
		}
		defer client.Close()
		client.Timeout = 2 * time.Second
		return fetch(&client.Client, url)
	}
}

// secure reads a page by TLS, and tells whose certificate it is.
func secure(config *tls.Config) func(*featureScene) (string, error) {
	return func(s *featureScene) (string, error) {
		conn, err := s.dialTLSWith(config)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		cert := conn.ConnectionState().PeerCertificates[0]
		answer, err := answerTo(conn, "GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
		return fmt.Sprint(cert.DNSNames, cert.IPAddresses, " ", answer), err
	}
}

// refused tells how a handshake fails.
func refused(config *tls.Config) func(*featureScene) (string, error) {
	return func(s *featureScene) (string, error) {
		conn, err := s.dialTLSWith(config)
		if err == nil {
			conn.Close()
			return "", errors.New("the handshake does not fail")
		}
		return alert(err)
	}
}

// alert is what a TLS server says is wrong.
func alert(err error) (string, error) {
	if said, ok := errors.AsType[*net.OpError](err); ok && said.Op == "remote error" {
		return said.Error(), nil
	}
	return "", err
}

func (s *featureScene) dialTLSWith(config *tls.Config) (*tls.Conn, error) {
	conn, err := s.PC1.DialContext(s.t.Context(), "tcp4", "192.168.1.2:443")
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.InsecureSkipVerify = true // whose it is, the test says
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(s.t.Context()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return client, nil
}

// answerTo says something and returns the status, the location and the body of the answer.
func answerTo(conn net.Conn, what string) (string, error) {
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(conn, what); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(answer))), nil)
	if err != nil {
		return "closed: " + string(answer), nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Location"), " ", string(body)), err
}

// raw says something to a port.
func raw(port, what string) func(*featureScene) (string, error) {
	return func(s *featureScene) (string, error) {
		conn, err := s.PC1.DialContext(s.t.Context(), "tcp4", "192.168.1.2:"+port)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		return answerTo(conn, what)
	}
}

// keptAlive asks twice by one connection.
func (s *featureScene) keptAlive() (string, error) {
	client, err := s.PC1.WebClient(netlab.WebOptions{Protocol: netlab.HTTP1, Address: paper.PseudoAddr})
	if err != nil {
		return "", err
	}
	defer client.Close()
	first, err := fetch(&client.Client, "http://192.168.1.2/")
	if err != nil {
		return "", err
	}
	second, err := fetch(&client.Client, "http://192.168.1.2/")
	return fmt.Sprint(first, "; ", second, "; connections: ", client.Connections()), err
}

func (s *featureScene) h2c() (string, error) {
	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: s.PC1.DialContext}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	return fetch(&http.Client{Transport: transport, Timeout: 2 * time.Second}, "http://192.168.1.2/")
}

// mutualTLS comes with a certificate, then without one.
func (s *featureScene) mutualTLS() (string, error) {
	certificates := []tls.Certificate{s.clientCertificate("client.example.com")}
	with, err := secure(&tls.Config{ServerName: "www.example.com", Certificates: certificates})(s)
	if err != nil {
		return "", err // the server may have no certificate of its own yet, and then refuses everyone
	}
	without, err := secure(&tls.Config{ServerName: "www.example.com"})(s)
	if err != nil {
		without, err = alert(err)
	}
	return without + "; " + with, err
}

// accessLog asks for a page of its own and returns what the log says about it.
func (s *featureScene) accessLog() (string, error) {
	s.path++
	uri := fmt.Sprintf("/%d", s.path)
	if _, err := web("http://192.168.1.2"+uri, netlab.HTTP1)(s); err != nil {
		return "", err
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		accesses, err := s.caddy.Accesses()
		if err != nil {
			return "", err
		}
		for _, a := range accesses {
			if a.Request.URI == uri {
				return fmt.Sprintln(a.Status, a.Request.RemoteIP, a.Request.ClientIP, a.Request.Proto), nil
			}
		}
	}
	return "", errors.New("the log does not have the request")
}

// metrics asks for a page and tells under which labels that is counted.
func (s *featureScene) metrics() (string, error) {
	if _, err := web("http://192.168.1.2/", netlab.HTTP1)(s); err != nil {
		return "", err
	}
	all, err := fetch(s.adminClient(), "http://localhost:2019/metrics")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(all) {
		if name, _, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(name, "caddy_http_requests_total{") {
			return name, nil
		}
	}
	return "", errors.New("no request is counted")
}
