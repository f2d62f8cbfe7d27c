package integration_test

import (
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// documentedGroups are the examples of docs/groups.md, each known by words of its
// own: what PC1 asks by curl, and what curl says, which is the name of the server
// that answered, and the status.
var documentedGroups = []struct {
	name, words string
	servers     map[string]string // by their addresses; default: a and b on port 80
	asks        map[string]string
}{
	{
		name: "by path", words: "redir /test1 /test1/",
		asks: map[string]string{
			"https://www.example.com/test1/":                                "a 200",
			"https://www.example.com/test2/":                                "b 200",
			"-L https://www.example.com/test1":                              "a 200",
			"-L https://www.example.com/test2":                              "b 200",
			"https://www.example.com/":                                      " 404",
			"https://www.example.com/test1/ https://www.example.com/test2/": "a 200b 200",
		},
	}, {
		name: "in namespaces", words: "netns front",
		servers: map[string]string{"192.168.50.1:80": "a"},
		asks:    map[string]string{"http://192.168.1.2/": "a 200"},
	}, {
		name: "before a server of one family", words: "fd00:40::1/64",
		servers: map[string]string{"192.168.50.1:80": "a"},
		asks:    map[string]string{"http://192.168.1.2/": "a 200", "http://" + pseudo6 + "/": "a 200"},
	}, {
		name: "by domain name", words: "b.example.com {",
		asks: map[string]string{
			"https://a.example.com/":      "a 200",
			"https://b.example.com/test1": "b 200",
			// The TLS name of the one, the Host of the other: it is the Host that
			// counts, because the front is the one that both trust.
			"https://a.example.com/ -H Host:b.example.com": "b 200",
			"https://a.example.com/ -H Host:c.example.com": " 200",
		},
	}, {
		name: "a canary by cookie, and by address", words: "@canary",
		asks: map[string]string{
			"https://www.example.com/":                                          "a 200",
			"https://www.example.com/ -b group=canary":                          "b 200",
			"https://www.example.com/ -b group=canary2":                         "a 200",
			"-L https://www.example.com/canary -c /dev/null":                    "b 200",
			"https://www.example.com/ --interface 10.20.0.5":                    "b 200",
			"https://www.example.com/ -H X-Forwarded-For:10.20.0.5":             "a 200",
			"https://www.example.com/ --interface 10.20.0.5 -b group=something": "b 200",
			"https://www.example.com/canary/further":                            "a 200",
		},
	}, {
		name: "by header and method", words: "@write",
		servers: map[string]string{"192.168.50.1:80": "a", "192.168.60.1:80": "b", "192.168.60.1:8080": "api"},
		asks: map[string]string{
			"https://www.example.com/":                                            "a 200",
			"https://www.example.com/ -X POST":                                    "b 200",
			"https://www.example.com/ -X DELETE":                                  "b 200",
			"https://www.example.com/api/ -H Accept:application/json":             "api 200",
			"https://www.example.com/api/ -H Accept:application/json;q=1 -X POST": "api 200",
			"https://www.example.com/api/":                                        "a 200",
			"https://www.example.com/ -H Accept:application/json":                 "a 200",
			"https://www.example.com/ -X POST -H X-HTTP-Method-Override:GET":      "b 200",
		},
	}, {
		name: "one for another that is down", words: "health_uri",
		servers: map[string]string{"192.168.60.1:80": "b"},
		asks:    map[string]string{"https://www.example.com/": "b 200", "https://www.example.com/x -X POST": "b 200"},
	},
}

// Every example of docs/groups.md does what the page says.
func TestDocumentedGroups(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		shown := caddyfilesOf(t, "docs/groups.md")
		if len(shown) != len(documentedGroups) {
			t.Errorf("docs/groups.md has %d examples, and %d are tried", len(shown), len(documentedGroups))
		}
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.ip(s.PC1, "address add 10.20.0.5/32 dev lo")
		s.ip(s.Router, "route add 10.20.0.5 via 192.168.10.2")
		if err := s.tryStart("{\n\tskip_install_trust\n}\n"); err != nil { // one Caddy for all of it
			t.Fatal(err)
		}
		for _, tt := range documentedGroups {
			t.Run(tt.name, func(t *testing.T) {
				defer s.in(t)()
				from := len(s.caddy.Log(everything))
				s.loadText(s.playable(datapath, shown, tt.words))
				if tt.servers == nil {
					tt.servers = map[string]string{"192.168.50.1:80": "a", "192.168.60.1:80": "b"}
				}
				home := s.Server
				if tt.name == "in namespaces" {
					home = s.enter(s.namespaces()["a"])
				}
				for address, name := range tt.servers {
					s.listen(home, address, (&recorder{name: name}).serve)
				}
				for args, want := range tt.asks {
					s.waitFor("there is a certificate", func() bool { return !strings.Contains(s.asked(args), "alert internal error") })
					s.wantAnswered(args, want)
				}
				s.wantLogFrom(from, `"path":"fast"`)
				if tt.words == "health_uri" {
					s.listen(s.Server, "192.168.50.1:80", (&recorder{name: "a"}).serve)
					s.waitFor("the segment that came up is asked", func() bool { return s.asked("https://www.example.com/") == "a 200" })
				}
			})
		}
	})
}

// caddyfilesOf are the Caddyfiles that a page shows. The test is to run them.
func caddyfilesOf(t *testing.T, page string) (shown []string) {
	t.Helper()
	for _, e := range examples.On(t, page) {
		if e.Language == "caddyfile" {
			shown = append(shown, e.Runs(t))
		}
	}
	return shown
}

const exampleBridge = `
		bridge lan {
			nic nic0
			address 192.168.1.2/24
			gateway 192.168.1.1
			steer front port tcp/80 tcp/443 udp/443
		}
`

// playable is the example with certain words, on the paper's server: with a bridge
// if it has none, with certificates of Caddy's own, with an access log that tells whether
// the lean proxy served, with frequent health checks, and with recorders in the place of
// the segments' sites.
func (s *scene) playable(datapath string, shown []string, words string) string {
	s.t.Helper()
	names := s.namespaces()
	path := examples.Beginning(s.t, "docs/groups.md", "log_append path")
	trust := examples.Beginning(s.t, "docs/groups.md", "servers {")
	for _, example := range shown {
		if !strings.Contains(example, words) {
			continue
		}
		example, _, _ = strings.Cut(example, "\nhttp:// {\n\tbind vnic/a")
		more := "\t\tdatapath " + datapath
		if !strings.Contains(example, "bridge lan") {
			more += exampleBridge
		}
		return strings.NewReplacer(
			"{\n\tvnic {\n", "{\n\tskip_install_trust\n\tlocal_certs\n\tgrace_period 1s\n\tvnic {\n"+more+"\n",
			"nic eth1", "nic nic0",
			"bind vnic/front\n", "bind vnic/front\n\tlog\n\t"+path,
			"\tservers {\n\t\ttrusted_proxies vnic\n\t}\n", trust,
			"address 192.168.50.1/24\n\t\t}", "address 192.168.50.1/24\nports any\n\t\t}",
			"address 192.168.60.1/24\n\t\t}", "address 192.168.60.1/24\nports any\n\t\t}",
			"health_interval 5s", "health_interval 500ms",
			"netns a\n", "netns "+names["a"]+"\n",
			"netns front\n", "netns "+names["front"]+"\n",
		).Replace(example)
	}
	s.t.Fatalf("docs/groups.md has no example with %q", words)
	return ""
}

// wantAnswered asks by curl from PC1.
func (s *scene) wantAnswered(args, want string) {
	s.t.Helper()
	if got := s.asked(args); got != want {
		s.t.Errorf("curl %s says %q, want %q", args, got, want)
	}
}

// asked is what curl says. It is tried again while there is no answer: the front
// needs a moment for its certificates.
func (s *scene) asked(args string) (said string) {
	s.t.Helper()
	command := append(strings.Fields(args), "-sSk", "--max-time", "8", "--resolve", "*:443:192.168.1.2", "-w", " %{http_code}")
	s.waitFor("an answer to curl "+args, func() bool {
		output, err := s.PC1.Run(s.t.Context(), "curl", command...)
		said = string(output)
		return err == nil
	})
	return said
}
