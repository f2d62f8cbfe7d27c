package leanproxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/testsite"
)

// TestServers checks that real servers answer alike by either layer, to clients over HTTP/1.1
// and HTTP/2, with and without TLS.
func TestServers(t *testing.T) {
	files := t.TempDir()
	for name, size := range map[string]int{"small.txt": 1 << 10, "long.txt": 1 << 20, "empty.txt": 0} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(strings.Repeat("0123456789abcdef", size/16)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, start := range map[string]func(t *testing.T, files string) (address, server string){
		"nginx": startNginx,
		"Caddy": func(t *testing.T, files string) (address, server string) {
			address = testsite.FreeAddress(t)
			return address, fmt.Sprintf(`, "upstream": {"listen": [%q], "protocols": ["h1"], "automatic_https": {"disable": true}, "routes": [{"handle": [
				{"handler": "encode", "encodings": {"gzip": {}}, "prefer": ["gzip"]},
				{"handler": "file_server", "root": %q}]}]}`, address, files)
		},
	} {
		t.Run(name, func(t *testing.T) {
			address, more := start(t, files)
			for _, secure := range []bool{false, true} {
				rig := newServersRig(t, address, more, secure)
				for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
					if secure || protocol == "HTTP/1.1" {
						t.Run(fmt.Sprintf("%s TLS %v", protocol, secure), func(t *testing.T) { rig.compare(t, protocol, secure) })
					}
				}
			}
		})
	}
}

func newServersRig(t *testing.T, upstream, more string, secure bool) *rig {
	t.Helper()
	var policies string
	if secure {
		policies = `"tls_connection_policies": [{}],`
	}
	r := &rig{fast: side{testsite.FreeAddress(t)}, slow: side{testsite.FreeAddress(t)}}
	r.load(t, fmt.Sprintf(`"http": {"servers": {"fast": %s, "slow": %s %s}},
		"tls": {"certificates": {"automate": ["localhost"]}, "automation": {"policies": [{"issuers": [{"module": "internal"}]}]}}`,
		server(r.fast.address, policies, []string{upstream}, ""), server(r.slow.address, policies, []string{upstream}, `"slow": true,`), more))
	if secure {
		r.awaitCertificate(t)
	}
	return r
}

// awaitCertificate waits until Caddy has made its certificate.
func (r *rig) awaitCertificate(t *testing.T) {
	t.Helper()
	testsite.WaitFor(t, "Caddy has a certificate", func() bool {
		conn, err := tls.Dial("tcp", r.fast.address, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

func startNginx(t *testing.T, files string) (address, server string) {
	t.Helper()
	dir := t.TempDir()
	address = testsite.FreeAddress(t)
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`
		user root; daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/log;
		events {}
		http {
			access_log off; gzip on; gzip_types text/plain; types { text/plain txt; }
			client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
			server { listen %[2]s; root %[3]s; }
		}`, dir, address, files)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	nginx := exec.Command("nginx", "-c", config, "-e", log)
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nginx.Process.Kill()
		_ = nginx.Wait()
		if said, _ := os.ReadFile(log); t.Failed() {
			t.Logf("nginx: %s", said)
		}
	})
	testsite.WaitFor(t, "nginx listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return address, ""
}

var serversRequests = []struct {
	method, path string
	header       http.Header
	body         string
}{
	{"GET", "/small.txt", nil, ""},
	{"GET", "/long.txt", nil, ""},
	{"GET", "/empty.txt", nil, ""},
	{"HEAD", "/long.txt", nil, ""},
	{"GET", "/long.txt", http.Header{"Range": {"bytes=1000-500000"}}, ""},
	{"GET", "/long.txt", http.Header{"Range": {"bytes=0-1,5-6"}}, ""},
	{"GET", "/small.txt", http.Header{"Range": {"bytes=5000-"}}, ""},
	{"GET", "/small.txt", http.Header{"If-Modified-Since": {"Fri, 01 Jan 2100 00:00:00 GMT"}}, ""},
	{"GET", "/long.txt", http.Header{"Accept-Encoding": {"gzip"}}, ""},
	{"HEAD", "/long.txt", http.Header{"Accept-Encoding": {"gzip"}}, ""},
	{"GET", "/none.txt", nil, ""},
	{"POST", "/small.txt", nil, "hello"},
	{"DELETE", "/small.txt", nil, ""},
	{"OPTIONS", "/small.txt", nil, ""},
}

func (r *rig) compare(t *testing.T, protocol string, secure bool) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}, DisableCompression: true, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
	transport.Protocols.SetHTTP2(protocol == "HTTP/2.0")
	defer transport.CloseIdleConnections()
	boundary := strings.NewReplacer() // of several ranges, which is made up
	for _, test := range serversRequests {
		var got [2]string
		for i, s := range []side{r.fast, r.slow} {
			request, err := http.NewRequest(test.method, s.url(secure)+test.path, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Host = "localhost"
			maps.Copy(request.Header, test.header)
			if test.body == "" {
				request.Body = http.NoBody
			}
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if response.Proto != protocol {
				t.Errorf("by %s", response.Proto)
			}
			path := response.Header.Get("X-Path")
			if want := map[bool]string{true: "fast", false: "reverse_proxy"}[i == 0 && test.body == ""]; path != want {
				t.Errorf("%s %s went by %s, want %s", test.method, test.path, path, want)
			}
			for _, name := range []string{"Date", "X-Path", "X-Shown"} {
				response.Header.Del(name)
			}
			got[i] = fmt.Sprintf("%s %v %s %v", response.Status, response.Header, body, err)
			if _, made, ok := strings.Cut(response.Header.Get("Content-Type"), "boundary="); ok {
				boundary = strings.NewReplacer(made, "boundary")
			}
			got[i] = boundary.Replace(got[i])
		}
		if got[0] != got[1] {
			t.Errorf("%s %s %v: the lean proxy answered\n%.600s\nreverse_proxy\n%.600s", test.method, test.path, test.header, got[0], got[1])
		}
	}
}

func (s side) url(secure bool) string {
	if secure {
		return "https://" + s.address
	}
	return "http://" + s.address
}
