package integration_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// page1 is a page of segment a that shows one of segment b beside itself.
const page1 = `<!DOCTYPE html>
<title>Fig-18</title>
<h1>This is server-A</h1>
<p id="origin"></p>
<p id="other"></p>
<script>
	document.getElementById("origin").textContent = "from " + location.origin;
	fetch("/test2/index.html").then(response => response.text()).then(text => {
		document.getElementById("other").textContent = text;
	});
</script>
`

// TestBrowser opens a page of segment a in a browser on PC1, where a script adds
// one of segment b: to the browser both are of one origin.
func TestBrowser(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newFront(t, datapath)
		s.write("A/test1/index.html", page1)
		s.write("B/test2/index.html", "and this is server-B")

		dom := s.browse(test1)
		for _, want := range []string{"<h1>This is server-A</h1>", "from https://www.example.com<", "and this is server-B<"} {
			if !strings.Contains(dom, want) {
				t.Errorf("the browser does not show %q but\n%s", want, dom)
			}
		}
	})
}

// browse opens a page of www.example.com in Chromium on PC1 and returns the document: dumpDOM.
func (s *scene) browse(url string) string {
	s.t.Helper()
	conn, err := s.dialTLS()
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	// Without a certificate database it believes a key that it is told of.
	key := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return s.dumpDOM(url, []string{base64.StdEncoding.EncodeToString(key[:])}, "--host-resolver-rules=MAP www.example.com 192.168.1.2")
}

// dumpDOM opens a page in Chromium on PC1, which believes some keys, and returns the document, once
// its scripts have had 10 s of their time.
func (s *scene) dumpDOM(url string, keys []string, flags ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	args := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir=" + s.t.TempDir(),
		"--ignore-certificate-errors-spki-list=" + strings.Join(keys, ","), "--virtual-time-budget=10000", "--dump-dom"}, flags...)
	dom, err := s.PC1.Run(ctx, chromium(s.t), append(args, url)...)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(dom)
}

// chromium is the browser, by the name that it has here.
func chromium(t *testing.T) string {
	t.Helper()
	names := []string{"chromium", "chromium-browser", "google-chrome"}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("no browser: install one of %q", names)
	return ""
}
