package integration_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// openDashboard runs a dashboard by a command of a page, and returns its URL.
func (s *troubled) openDashboard(command string) (*netlab.Process, string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(self, strings.Fields(command)[1:]...)
	cmd.Env = append(os.Environ(), asCaddy)
	return s.startDashboard(s.Server, cmd)
}

func (s *troubled) spentAddress(symptom examples.Symptom) {
	for range 2 { // run again
		dashboard, url := s.openDashboard(symptom.Fix[0])
		client := s.Server.HTTPClient()
		client.Jar, _ = cookiejar.New(nil)
		if _, err := fetch(client, url); err != nil {
			s.t.Errorf("the page does not open: %v", err)
		}
		if said := s.said(url, ""); !strings.Contains(said, "is good for one browser, once") {
			s.t.Errorf("another browser gets %q", said)
		}
		dashboard.Stop()
	}
}

func (s *troubled) otherHost(examples.Symptom) {
	dashboard, url := s.openDashboard("caddy vnic dashboard")
	if said := s.said(url, "server.example"); !strings.Contains(said, "requests for another host are refused") {
		s.t.Errorf("by another name there is %q", said)
	}
	client := s.Server.HTTPClient()
	client.Jar, _ = cookiejar.New(nil)
	if _, err := fetch(client, strings.Replace(url, "127.0.0.1", "localhost", 1)); err != nil {
		s.t.Errorf("by localhost the page does not open: %v", err)
	}
	dashboard.Stop()
}

// said is the answer to a browser that comes for the first time.
func (s *troubled) said(url, host string) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Host = host
	response, err := s.Server.HTTPClient().Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

func (s *troubled) publicDashboard(symptom examples.Symptom) {
	output, err := s.tryShell("caddy vnic dashboard --listen 0.0.0.0:7020")
	if err == nil || !strings.Contains(output, "want a loopback address") {
		s.t.Errorf("%v: %s", err, output)
	}
	// How the port is forwarded is run with the example of docs/operating.md.
	if shown := examples.Beginning(s.t, "docs/operating.md", "ssh "); !strings.Contains(shown, strings.TrimPrefix(symptom.Fix[0], "ssh ")) {
		s.t.Errorf("%s is not what docs/operating.md shows, %s", symptom.Fix[0], shown)
	}
}

func (s *troubled) noApp(symptom examples.Symptom) {
	s.write("Caddyfile", "{\n}\n")
	if err := s.caddy.Reload(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	output, err := s.tryShell(symptom.Look[0])
	if err == nil || !strings.Contains(output, "the running configuration has no vnic app") {
		s.t.Errorf("%v: %s", err, output)
	}
	s.load(s.right)
	s.wantService()
}
