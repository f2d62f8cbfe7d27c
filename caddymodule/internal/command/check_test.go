package command

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/checkup"
	vnicconfig "github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// TestPortsThatTheCheckSees checks that the check finds the ports that servers will open: those
// of HTTP, of HTTP/3, and of apps that it does not know. It also finds the host names of sites.
func TestPortsThatTheCheckSees(t *testing.T) {
	file := filepath.Join(t.TempDir(), "caddy.json")
	if err := os.WriteFile(file, []byte(`{"apps": {
		"vnic": {"segments": {"a": {"addresses": ["192.168.50.1/24"]}}},
		"layer4": {"servers": {"x": {"listen": ["vnic/d:5000-5001"], "note": "vnic/e"}}},
		"http": {"servers": {
			"plain": {"listen": ["vnic/a:80", ":80"], "routes": [{"match": [{"host": ["b.example.com"]}]}]},
			"secure": {"listen": ["vnic/a:443"], "routes": [{"match": [{"host": ["A.example.com", "192.0.2.1"]}, {"path": ["/"]}]}, {}]},
			"elsewhere": {"listen": ["vnic/b:8443"], "tls_connection_policies": [{}]},
			"old": {"listen": ["vnic/c:443"], "protocols": ["h1", "h2"]}}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := adminFlags{config: file}
	config, _, err := admin.loadForCheck()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][]string)
	for segment, ports := range config.listen() {
		for _, p := range ports {
			got[segment] = append(got[segment], p.String())
		}
		slices.Sort(got[segment])
	}
	want := map[string][]string{
		"a": {"tcp/443", "tcp/80", "udp/443"}, "b": {"tcp/8443", "udp/8443"}, "c": {"tcp/443"}, "d": {"tcp/5000-5001"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the check sees %v, want %v", got, want)
	}
	sites := []vnicconfig.Site{
		{Segment: "a", Names: []string{"b.example.com"}, Ports: []vnicconfig.PortRange{{Protocol: vnicconfig.TCP, First: 80, Last: 80}}},
		{Segment: "a", Names: []string{"a.example.com"}, Ports: []vnicconfig.PortRange{{Protocol: vnicconfig.TCP, First: 443, Last: 443}, {Protocol: vnicconfig.UDP, First: 443, Last: 443}}, Redirects: 80},
	}
	if !reflect.DeepEqual(config.sites, sites) {
		t.Errorf("the check sees %+v, want %+v", config.sites, sites)
	}
	findings := listenFindings(&config.Apps.VNIC, config.addresses(), nil)
	if want := `listening on vnic/b:8443: unknown segment "b": the configuration has a`; !slices.Contains(findings, checkup.Finding{Severity: checkup.SeverityError, Message: want}) {
		t.Errorf("the findings are %v, want %q among them", findings, want)
	}
}
