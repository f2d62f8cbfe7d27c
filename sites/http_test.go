package sites_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

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
		{"h1", (*httptest.Server).Start, "HTTP/1.1"},
		{"h2", (*httptest.Server).StartTLS, "HTTP/2.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, at sites.Address, f family) {
				s := httptest.NewUnstartedServer(echoClient)
				s.Listener.Close()
				s.Listener = listen(t, sites.NewSockets(new(planeStub)), at)
				s.EnableHTTP2 = true
				test.start(s)
				defer s.Close()
				transport := s.Client().Transport.(*http.Transport)
				transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
					d := net.Dialer{LocalAddr: &net.TCPAddr{IP: f.alias.AsSlice()}}
					return d.DialContext(ctx, network, to(f.alias, s.Listener.Addr()))
				}
				expect(t, transport, s.URL, fmt.Sprintf("%s %s %s", test.want, f.client, f.dialed))
			})
		})
	}
}

func TestHTTP3SeesTheClient(t *testing.T) {
	// httptest has a certificate that both ends can use.
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Certificate())

	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		pc := listenPacket(t, sites.NewSockets(new(planeStub)), at)
		s := serveHTTP3(t, pc, cert.TLS.Certificates)
		defer s.Close()
		transport := http3From(t, f, pc, roots)
		expect(t, transport, "https://"+netip.AddrPortFrom(server, 443).String(), fmt.Sprintf("HTTP/3.0 %s %s", f.client, f.dialed))
	})
}

func serveHTTP3(t *testing.T, pc net.PacketConn, certs []tls.Certificate) *http3.Server {
	t.Helper()
	pc.SetDeadline(time.Time{})
	s := &http3.Server{Handler: echoClient, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: certs})}
	go s.Serve(pc)
	return s
}

// http3From returns a client at a family's alias.
func http3From(t *testing.T, f family, pc net.PacketConn, roots *x509.CertPool) *http3.Transport {
	t.Helper()
	socket := udpFrom(t, f.alias)
	socket.SetDeadline(time.Time{}) // QUIC has its own
	from := &quic.Transport{Conn: socket}
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"},
		Dial: func(ctx context.Context, _ string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
			server := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to(f.alias, pc.LocalAddr())))
			return from.DialEarly(ctx, server, tlsConf, conf)
		},
	}
	t.Cleanup(func() {
		transport.Close()
		from.Close()
	})
	return transport
}

// TestHTTP3FollowsItsSegment checks that connections of both families outlive changes of the
// segment's addresses and a stop, and that new ones come in afterwards.
func TestHTTP3FollowsItsSegment(t *testing.T) {
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Certificate())
	v4, v6 := families[0], families[1]
	sockets, at := sites.NewSockets(new(planeStub)), freePort(t, v4.server, v6.server)
	at.Addrs = []netip.Addr{v4.server}
	pc := listenPacket(t, sockets, at)
	s := serveHTTP3(t, pc, cert.TLS.Certificates)
	defer s.Close()
	ask := func(transport *http3.Transport, f family) {
		t.Helper()
		expect(t, transport, "https://"+netip.AddrPortFrom(server, 443).String(), fmt.Sprintf("HTTP/3.0 %s %s", f.client, f.dialed))
	}
	from4 := http3From(t, v4, pc, roots)
	ask(from4, v4)
	readdress(t, sockets, v4.server, v6.server)
	from6 := http3From(t, v6, pc, roots)
	ask(from4, v4)
	ask(from6, v6)
	for _, silent := range []time.Duration{0, 1100 * time.Millisecond} { // the second one closes the sockets
		time.Sleep(silent)
		sockets.Stop("a")
		if err := sockets.Start(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		ask(from4, v4)
		ask(from6, v6)
	}
	ask(http3From(t, v4, pc, roots), v4)
	ask(http3From(t, v6, pc, roots), v6)
	readdress(t, sockets, v6.server)
	ask(from6, v6)
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
