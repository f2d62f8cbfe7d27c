package sites_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// echoClient answers with the protocol, the client's address, and the address that the client
// dialed.
var echoClient = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	to, _, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	io.WriteString(w, r.Proto+" "+host+" "+to)
})

func TestHTTPSeesTheClient(t *testing.T) {
	for _, test := range []struct {
		name  string
		start func(*httptest.Server)
		want  string
	}{
		{"h1", (*httptest.Server).Start, "HTTP/1.1 203.0.113.7 192.0.2.1"},
		{"h2", (*httptest.Server).StartTLS, "HTTP/2.0 203.0.113.7 192.0.2.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(echoClient)
			s.Listener.Close()
			s.Listener = listen(t, sites.NewSockets(new(planeStub)), freePort(t))
			s.EnableHTTP2 = true
			test.start(s)
			defer s.Close()
			transport := s.Client().Transport.(*http.Transport)
			transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: alias.AsSlice()}}).DialContext
			expect(t, transport, s.URL, test.want)
		})
	}
}

func TestHTTP3SeesTheClient(t *testing.T) {
	// httptest has a certificate that both ends can use.
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Certificate())

	pc := listenPacket(t, sites.NewSockets(new(planeStub)), freePort(t))
	s := &http3.Server{Handler: echoClient, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: cert.TLS.Certificates})}
	go s.Serve(pc)
	defer s.Close()

	from := &quic.Transport{Conn: udpFrom(t, alias)}
	defer from.Close()
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"},
		Dial: func(ctx context.Context, _ string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
			return from.DialEarly(ctx, pc.LocalAddr(), tlsConf, conf)
		},
	}
	defer transport.Close()
	expect(t, transport, "https://"+netip.AddrPortFrom(server, 443).String(), "HTTP/3.0 203.0.113.7 192.0.2.1")
}

func expect(t *testing.T, transport http.RoundTripper, url, want string) {
	t.Helper()
	resp, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != want {
		t.Errorf("the server answered %q, %v; want %q", got, err, want)
	}
}
