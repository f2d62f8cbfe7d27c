package integration_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// groups are the two groups of the paper's Fig-18, over HTTP and HTTPS.
const groups = `
http://www.example.com, https://www.example.com {
	bind vnic/front
	tls internal
	redir /test1 /test1/
	redir /test2 /test2/
	handle /test1/* {
		vnic_proxy a
	}
	handle /test2/* {
		vnic_proxy b
	}
	handle {
		error 404
	}
}
`

// grouping is a front before two segments that record what they get.
type grouping struct {
	*scene
	segments map[string]*recorder
}

func newGrouping(t *testing.T, datapath string) *grouping {
	t.Helper()
	g := &grouping{scene: newScene(t, paper.NetworkOptions{}), segments: map[string]*recorder{"a": {name: "a"}, "b": {name: "b"}}}
	g.startFront("", frontCaddyfile{datapath: datapath, a: "ports tcp/80", b: "ports tcp/80", sites: groups})
	g.listen(g.Server, "192.168.50.1:80", g.segments["a"].serve)
	g.listen(g.Server, "192.168.60.1:80", g.segments["b"].serve)
	g.waitFor("the front's certificate", func() bool {
		conn, err := g.dialTLS("http/1.1")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return g
}

// dial connects PC1 to the front.
func (g *grouping) dial() (net.Conn, error) {
	return g.PC1.DialContext(g.t.Context(), "tcp4", "192.168.1.2:80")
}

func (g *grouping) dialTLS(protocol string) (net.Conn, error) {
	conn, err := g.PC1.DialContext(g.t.Context(), "tcp4", "192.168.1.2:443")
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, // who the front is, is not the question here
		ServerName:         "www.example.com", NextProtos: []string{protocol},
	})
	return secure, secure.HandshakeContext(context.Background())
}

// arrived tells what the segments got since it was asked last, as in
// "a: GET /test1/", and checks that each may have it.
func (g *grouping) arrived(t *testing.T, scheme string) (what []string) {
	t.Helper()
	for name, group := range map[string]string{"a": "/test1/", "b": "/test2/"} {
		requests, wrong := g.segments[name].take()
		for _, w := range wrong {
			t.Errorf("%s got what is no proper request: %s", name, w)
		}
		for _, r := range requests {
			if !r.cutOff { // else the front gave it up, and a server must, too (RFC 9112, section 8)
				what = append(what, fmt.Sprintf("%s: `%s %s`", name, r.method, r.target))
			}
			if routed := r.routed(t); !strings.HasPrefix(routed, group) {
				t.Errorf("%s got %s, which Caddy takes for %s", name, r.target, routed)
			}
			wantForwarded(t, &r, scheme)
		}
	}
	slices.Sort(what)
	return what
}

// wantForwarded checks that all that a request says about its way is what the
// front knows itself, by whatever spelling of the names.
func wantForwarded(t *testing.T, r *received, scheme string) {
	t.Helper()
	if r.cutOff { // it may have come later than the next attempt began
		scheme = strings.Join(r.values("x-forwarded-proto"), ", ")
	}
	for name, want := range map[string]string{
		"x-forwarded-for": "192.168.10.2", "x-forwarded-proto": scheme, "x-forwarded-host": strings.Join(r.values("host"), ", "),
	} {
		if got := r.values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %s is %q, want %s", r.target, name, got, want)
		}
	}
	for _, f := range slices.Concat(r.fields, r.trailer) {
		switch name := strings.ReplaceAll(f.name, "_", "-"); {
		case slices.Contains(r.fields, f) && slices.Contains([]string{"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}, f.name):
		case strings.HasPrefix(name, "x-forwarded"), name == "forwarded", name == "x-real-ip":
			t.Errorf("%s: a client's %s: %s came through", r.target, f.name, f.value)
		}
	}
}
