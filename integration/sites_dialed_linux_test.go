package integration_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// The local address of a request is the address that its client dialed. For a front that is
// the pseudo address, also behind the lean server. For a segment that the front reaches it is
// the alias by which the front does so, over HTTP/1.1 and HTTP/3, and there the front is
// trusted. For the host's own programs it is the segment's address.
func TestLocalAddressIsWhatWasDialed(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		config := frontCaddyfile{datapath: datapath, global: "servers {\ntrusted_proxies vnic\n}", sites: `
http://www.example.com {
	bind vnic/front
	header X-Front {http.request.local}
	handle /1 {
		vnic_proxy a
	}
	handle /3 {
		vnic_proxy a:443 {
			transport http {
				versions 3
				tls_insecure_skip_verify
			}
		}
	}
}
http:// {
	bind vnic/a
	respond "{http.request.local.host} {remote_host} {client_ip} {http.request.proto}"
}
https:// {
	bind vnic/a
	tls internal {
		on_demand
	}
	respond "{http.request.local.host} {remote_host} {client_ip} {http.request.proto}"
}
`}
		if err := s.tryStart(config.String()); err != nil {
			t.Fatal(err)
		}
		alias := s.status().Segments["front"].Peers["a"][0].String()
		for path, proto := range map[string]string{"/1": "HTTP/1.1", "/3": "HTTP/3.0"} {
			for range 3 { // the lean server begins with the second connection
				client := s.PC1.HTTPClient()
				resp, err := client.Do(s.toExample("http://192.168.1.2" + path))
				if err != nil {
					t.Fatal(err)
				}
				body := readBody(t, resp)
				if want := alias + " 192.168.40.1 192.168.10.2 " + proto; body != want {
					t.Errorf("a, which the front reached by %s, has %q, want %q", proto, body, want)
				}
				if got := resp.Header.Get("X-Front"); got != "192.168.1.2:80" {
					t.Errorf("the front's local address is %s", got)
				}
			}
		}
		inside := s.Server.HTTPClient()
		inside.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		resp, err := inside.Get("https://192.168.50.1/")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := readBody(t, resp), "192.168.50.1 192.168.50.1 192.168.50.1 HTTP/1.1"; got != want {
			t.Errorf("a program of the host has %q, want %q", got, want)
		}
		if names := resp.TLS.PeerCertificates[0].IPAddresses; len(names) != 1 || names[0].String() != "192.168.50.1" {
			t.Errorf("and a certificate for %v", names)
		}
	})
}

// toExample asks for a page of www.example.com by an address.
func (s *scene) toExample(url string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = "www.example.com"
	return r
}

// readBody reads a response to its end.
func readBody(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
