package integration_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// The routes under /vnic/ are behind Caddy's own access rules: on the local endpoint
// those for browsers, on the remote one those that a configuration gives to keys.
func TestAdminAccess(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{})
	const drain = "/vnic/segments/a/drain"
	for name, header := range map[string]http.Header{
		"another origin":  {"Origin": {"http://evil.example"}},
		"another host":    {"Host": {"evil.example:2019"}},
		"no-cors":         {"Sec-Fetch-Mode": {"no-cors"}},
		"a navigation":    {"Sec-Fetch-Mode": {"navigate"}},
		"an origin, null": {"Origin": {"null"}},
	} {
		for path, method := range map[string]string{"/vnic/status": http.MethodGet, "/vnic/flows": http.MethodGet, drain: http.MethodPost} {
			status := s.adminStatus(s.Server.HTTPClient(), method, "http://localhost:2019"+path, header)
			if status != http.StatusForbidden && status != http.StatusBadRequest {
				t.Errorf("%s, %s %s: %d, want refused", name, method, path, status)
			}
		}
	}

	certificate := s.openRemoteAdmin(`[{"paths": ["/vnic/status"], "methods": ["GET"]}]`)
	remote := s.Server.HTTPClient()
	remote.Transport.(*http.Transport).TLSClientConfig = &tls.Config{
		ServerName: "localhost", Certificates: []tls.Certificate{certificate},
		InsecureSkipVerify: true, // it is about the client's certificate
	}
	s.waitFor("the remote endpoint has its own certificate", func() bool {
		_, err := fetch(remote, "https://localhost:2021/vnic/status")
		return err == nil
	})
	for path, want := range map[string]int{
		"GET /vnic/status": http.StatusOK, "POST /vnic/status": http.StatusForbidden, "GET /vnic/flows": http.StatusForbidden,
		"POST " + drain: http.StatusForbidden, "DELETE /vnic/bridges/lan/switch": http.StatusForbidden, "GET /config/": http.StatusForbidden,
	} {
		method, path, _ := strings.Cut(path, " ")
		if status := s.adminStatus(remote, method, "https://localhost:2021"+path, nil); status != want {
			t.Errorf("by the remote endpoint, %s %s: %d, want %d", method, path, status, want)
		}
	}
	remote.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	if answer, err := remote.Get("https://localhost:2021/vnic/status"); err == nil {
		answer.Body.Close()
		t.Errorf("without a certificate: %s", answer.Status)
	}
	if state := s.status().Segments["a"].State; state != config.Active {
		t.Errorf("segment a is %s", state)
	}
}

// adminStatus is the status of an answer.
func (s *scene) adminStatus(client *http.Client, method, url string, header http.Header) int {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Host = header.Get("Host")
	answer, err := client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// openRemoteAdmin has Caddy open its remote admin endpoint, with permissions for the
// key of the certificate.
func (s *scene) openRemoteAdmin(permissions string) tls.Certificate {
	s.t.Helper()
	certificate := s.clientCertificate("admin")
	var config map[string]any
	if err := json.Unmarshal([]byte(s.fromAdmin("/config/")), &config); err != nil {
		s.t.Fatal(err)
	}
	config["admin"] = map[string]any{
		"listen":   "localhost:2019",
		"identity": map[string]any{"identifiers": []string{"localhost"}, "issuers": []any{map[string]any{"module": "internal"}}},
		"remote": map[string]any{"listen": "localhost:2021", "access_control": []any{
			map[string]any{"public_keys": certificate.Certificate, "permissions": json.RawMessage(permissions)},
		}},
	}
	body, err := json.Marshal(config)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := s.adminClient().Post("http://localhost:2019/load", "application/json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("POST /load: %s", answer.Status)
	}
	return certificate
}

// clientCertificate is a certificate that its owner has signed, and its key.
func (s *scene) clientCertificate(name string) tls.Certificate {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
