//go:build soak

package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// firefox is Firefox ESR on PC1, operated by the Marionette protocol
// (https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html).
type firefox struct {
	s    *scene
	conn net.Conn
	from *bufio.Reader
	last int
	stop func()
}

// firefoxPreferences let every name be the bridge's address, as a DNS server would, and let a host
// be asked over HTTP/3 at once, although its certificate is the test's.
const firefoxPreferences = `user_pref("network.dns.forceResolve", %q);
user_pref("network.dns.disableIPv6", true);
user_pref("network.http.http3.alt-svc-mapping-for-testing", %q);
user_pref("network.http.http3.disable_when_third_party_roots_found", false);
user_pref("app.normandy.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("marionette.port", 2828);
`

// startFirefox starts the browser. It asks h3 over HTTP/3, if that is not empty, and believes every
// certificate.
func (s *scene) startFirefox(h3 string) *firefox {
	s.t.Helper()
	profile := s.t.TempDir()
	if h3 != "" {
		h3 += ";h3=:443"
	}
	preferences := fmt.Sprintf(firefoxPreferences, paper.PseudoAddr, h3)
	if err := os.WriteFile(profile+"/user.js", []byte(preferences), 0o644); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command("firefox-esr", "--headless", "--marionette", "--profile", profile, "--no-remote")
	cmd.Env = append(os.Environ(), "HOME="+profile)
	process, err := s.PC1.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	f := &firefox{s: s}
	s.waitFor("Firefox answers", func() bool {
		f.conn, err = s.PC1.DialContext(s.t.Context(), "tcp", "127.0.0.1:2828")
		return err == nil
	})
	f.stop = func() {
		f.conn.Close()
		process.Stop()
	}
	s.t.Cleanup(f.stop)
	f.from = bufio.NewReader(f.conn)
	f.message() // the greeting
	f.call("WebDriver:NewSession", map[string]any{"acceptInsecureCerts": true})
	return f
}

// text opens a page and returns the text that it shows. An error of the browser is in the text.
func (f *firefox) text(url string) string {
	f.s.t.Helper()
	if failure := f.call("WebDriver:Navigate", map[string]any{"url": url}); strings.HasPrefix(failure, "error ") {
		return failure
	}
	return f.call("WebDriver:ExecuteScript", map[string]any{"script": "return document.body.innerText", "args": []any{}})
}

// call lets the browser do something, and returns the value of its answer.
func (f *firefox) call(command string, parameters any) string {
	f.s.t.Helper()
	f.last++
	raw, err := json.Marshal([]any{0, f.last, command, parameters})
	if err == nil {
		_, err = fmt.Fprintf(f.conn, "%d:%s", len(raw), raw)
	}
	if err != nil {
		f.s.t.Fatal(err)
	}
	var answer [4]json.RawMessage // the kind, the number, an error, a result
	if err := json.Unmarshal(f.message(), &answer); err != nil {
		f.s.t.Fatal(err)
	}
	if string(answer[2]) != "null" {
		return "error " + string(answer[2])
	}
	var result struct{ Value any }
	_ = json.Unmarshal(answer[3], &result) // of a new session there is no value
	return fmt.Sprint(result.Value)
}

// message reads a message, before which its length stands.
func (f *firefox) message() []byte {
	f.s.t.Helper()
	err := f.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	length := ""
	if err == nil {
		length, err = f.from.ReadString(':')
	}
	n := 0
	if err == nil {
		n, err = strconv.Atoi(strings.TrimSuffix(length, ":"))
	}
	message := make([]byte, n)
	if err == nil {
		_, err = io.ReadFull(f.from, message)
	}
	if err != nil {
		f.s.t.Fatalf("Firefox: %v", err)
	}
	return message
}

// soakFirefox opens the sites of two segments in Firefox ESR, by their names (N2, N10).
func soakFirefox(t *testing.T, datapath string) (figures []figure) {
	s := newScene(t, paper.NetworkOptions{IPv6: true})
	s.startByName(datapath)
	for _, protocol := range []struct{ h3, name string }{{"", "HTTP/2.0"}, {"a.example.com", "HTTP/3.0"}} {
		browser := s.startFirefox(protocol.h3)
		for host, segment := range map[string]string{"a.example.com": "a", "www.b.example.com": "b"} {
			if protocol.h3 != "" && protocol.h3 != host {
				continue
			}
			want := fmt.Sprintf("%s %s %s", segment, paper.PC1Addr, protocol.name)
			if got := browser.text("https://" + host + "/"); got != want {
				t.Errorf("%s: Firefox shows %q, want %q", host, got, want)
			}
		}
		browser.call("Marionette:Quit", map[string]any{"flags": []string{"eForceQuit"}}) // so that it ends its connections
		browser.stop()
		figures = append(figures, figure{"Firefox ESR shows the sites of names over " + protocol.name, "yes"})
	}
	return figures
}
