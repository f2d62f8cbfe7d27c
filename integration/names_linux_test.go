package integration_test

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// sitesByName is a site of its own on each segment, with its own certificate, for names that
// clients ask for at one address. Each tells its segment, the client's address, and the protocol.
const sitesByName = `
a.example.com {
	bind vnic/a
	tls internal
	respond "a {remote_host} {http.request.proto}"
}
http://a.example.com {
	bind vnic/a
	respond "a {remote_host} {http.request.proto}"
}
www.b.example.com {
	bind vnic/b
	tls internal
	respond "b {remote_host} {http.request.proto}"
}
http:// {
	bind vnic/b
	respond "b {remote_host} {http.request.proto}"
}
`

// namesPage is the page about names.
const namesPage = "docs/names.md"

// The Caddyfile of docs/names.md serves its two domains, each from its own segment.
func TestNamesPage(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{})
	text := strings.ReplaceAll(caddyfilesOf(t, namesPage)[0], "eth1", "nic0")
	s.loadText(strings.Replace(text, "{\n", "{\nlocal_certs\nskip_install_trust\n", 1))
	for host, group := range map[string]string{"a.example.com": "A", "b.example.com": "B", "www.b.example.com": "B"} {
		s.waitFor(host+" is served by its group", func() bool {
			output, err := s.PC1.Run(t.Context(), "curl", "-sSk", "--max-time", "5", "--connect-to", host+"::192.168.1.2:", "https://"+host+"/")
			return err == nil && string(output) == "the site of group "+group+", for "+paper.PC1Addr.String()
		})
	}
}

// The second Caddyfile of docs/names.md has two segments for each name: one of them serves it while
// the other one is drained.
func TestNamesPageOfSeveralSegments(t *testing.T) {
	t.Parallel()
	s := newScene(t, paper.NetworkOptions{})
	s.start(caddyfile{})
	text := strings.ReplaceAll(caddyfilesOf(t, namesPage)[1], "eth1", "nic0")
	s.loadText(strings.Replace(text, "{\n", "{\nlocal_certs\nskip_install_trust\n", 1))
	serves := func(host, want string) {
		t.Helper()
		s.waitFor(want+" serves "+host, func() bool {
			output, err := s.PC1.Run(t.Context(), "curl", "-sSk", "--max-time", "5", "--connect-to", host+"::192.168.1.2:", "https://"+host+"/")
			return err == nil && string(output) == want
		})
	}
	serves("www.example.com", "segment a")
	s.vnic("drain", "a")
	for _, host := range []string{"www.example.com", "api.example.com"} {
		serves(host, "segment b")
	}
	s.vnic("activate", "a")
	serves("www.example.com", "segment a")
}

// Rows N1, N2, N5, N9 and N12: clients that nobody here wrote reach the segment of the name that they
// ask for, over both families, and talk TLS with its server end to end.
func TestSegmentsByName(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.startByName(datapath)
		for _, family := range []struct{ at, client string }{
			{"192.168.1.2", paper.PC1Addr.String()}, {pseudo6, paper.PC1Addr6.String()},
		} {
			for url, want := range map[string]string{
				"http://a.example.com/": "a", "https://a.example.com/": "a", "https://www.b.example.com/": "b", "http://other.example.com/": "b",
			} {
				for _, protocol := range []struct{ flag, name string }{{"--http1.1", "HTTP/1.1"}, {"--http2", "HTTP/2.0"}} {
					if protocol.name == "HTTP/2.0" && strings.HasPrefix(url, "http:") {
						continue
					}
					got := s.askFor(family.at, url, protocol.flag)
					if want := fmt.Sprintf("%s %s %s", want, family.client, protocol.name); got != want {
						t.Errorf("%s at %s with %s: got %q, want %q", url, family.at, protocol.flag, got, want)
					}
				}
			}
		}
		// Of each family: plain HTTP, and HTTPS with either version of HTTP.
		want := map[string]uint64{"a.example.com": 6, "*.b.example.com": 4, "": 2}
		if got := s.status().Bridges["lan"].FlowsByName; !maps.Equal(got, want) {
			t.Errorf("flows by name: %v, want %v", got, want)
		}
		if metric := fmt.Sprintf("caddy_vnic_bridge_flows_by_name_total{bridge=\"lan\",rule=%q} 4", "*.b.example.com"); !strings.Contains(s.fromAdmin("/metrics"), metric) {
			t.Errorf("the metrics do not have %s", metric)
		}
		flows := s.vnic("flows", "--name", "*.B.example.com")
		if rows := regexp.MustCompile(`(?m)^tcp .* b +\*\.b\.example\.com `).FindAllString(flows, -1); len(rows) != 4 || !strings.HasPrefix(flows, "4 of 4 flows") {
			t.Errorf("the flows of a rule are\n%s", flows)
		}
	})
}

// askFor asks for a URL at the address of a bridge, whatever the URL's host is.
func (s *scene) askFor(at, url string, options ...string) string {
	s.t.Helper()
	return s.run(s.PC1, "curl", append([]string{"-sSk", "--max-time", "5", "--connect-to", "::" + at + ":", url}, options...)...)
}

// siteOf is a site on a segment with HTTP and HTTPS, which says the segment.
func siteOf(segment, host string) string {
	return fmt.Sprintf("http://%[2]s {\n\tbind vnic/%[1]s\n\trespond %[1]s\n}\nhttps://%[2]s {\n\tbind vnic/%[1]s\n\ttls internal\n\trespond %[1]s\n}\n", segment, host)
}

// Row N11: `steer sites` follows the sites of the configuration.
func TestSteerSites(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{})
		rest := "http:// {\n\tbind vnic/a\n\trespond \"the rest\"\n}\n"
		config := caddyfile{
			datapath: datapath, global: "skip_install_trust", policy: "steer sites\nlb_policy first a",
			sites: rest + siteOf("a", "a.example.com") + siteOf("b", "b.example.com"),
		}
		without, with := config, config
		with.sites += siteOf("b", "*.b.example.com")
		s.start(config)
		s.wantSites(map[string]string{"a.example.com": "a", "b.example.com": "b", "www.b.example.com": ""})
		s.load(with)
		s.wantSites(map[string]string{"a.example.com": "a", "b.example.com": "b", "www.b.example.com": "b"})
		s.load(without)
		s.wantSites(map[string]string{"a.example.com": "a", "b.example.com": "b", "www.b.example.com": ""})

		config.sites = rest
		s.load(config)
		s.wantInLog("`steer sites` steers nothing")
		s.wantSites(map[string]string{"a.example.com": "", "b.example.com": ""})
	})
}

// wantSites asks for host names. One without a segment is that of no site.
func (s *scene) wantSites(segments map[string]string) {
	s.t.Helper()
	for host, want := range segments {
		if want == "" {
			want = "the rest"
		} else {
			// A site has no certificate for a moment.
			got := s.askFor("192.168.1.2", "https://"+host+"/", "--retry", "5", "--retry-all-errors", "--no-show-error")
			if got != want {
				s.t.Errorf("https://%s: got %q, want %q", host, got, want)
			}
			if got, err := s.overHTTP3(host); err != nil || got != want {
				s.t.Errorf("%s over HTTP/3: got %q (%v), want %q", host, got, err, want)
			}
		}
		if got := s.askFor("192.168.1.2", "http://"+host+"/"); got != want {
			s.t.Errorf("http://%s: got %q, want %q", host, got, want)
		}
	}
}

// overHTTP3 asks for a host name over HTTP/3.
func (s *scene) overHTTP3(host string) (string, error) {
	roots, err := s.caddy.Roots()
	if err != nil {
		return "", err
	}
	client, err := s.PC1.WebClient(netlab.WebOptions{Protocol: netlab.HTTP3, Address: paper.PseudoAddr, Roots: roots})
	if err != nil {
		return "", err
	}
	defer client.Close()
	return fetch(&client.Client, "https://"+host+"/")
}
