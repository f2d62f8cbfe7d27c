package caddymodule

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
)

// noListener checks that a request to a segment without a server fails at once, with an error
// that names the segment.
func (g *groups) noListener(t *testing.T) {
	begin := time.Now()
	if code, body := g.get(t, "/none/", nil); code != http.StatusBadGateway {
		t.Errorf("%d %q", code, body)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %s", took)
	}
	g.expectLog(t, `"msg":"segment c: dial tcp 192.168.40.`)
}

// stopped checks that a stopped segment gets no requests, and that the other one still does.
func (g *groups) stopped(t *testing.T) {
	operate(t, "stop")
	if code, body := g.get(t, "/test1/", nil); code != http.StatusBadGateway {
		t.Errorf("stopped, a answers %d %q", code, body)
	}
	if _, body := g.get(t, "/test2/", nil); body != saw("b", "/test2/") {
		t.Errorf("b answers %q", body)
	}
	operate(t, "start")
	if code, body := g.get(t, "/test1/", nil); body != saw("a", "/test1/") {
		t.Errorf("started again, a answers %d %q", code, body)
	}
}

func operate(t *testing.T, operation string) {
	t.Helper()
	if code, body := fetch(t, http.MethodPost, "http://localhost:2019/vnic/segments/a/"+operation); code != http.StatusOK {
		t.Fatalf("%s: %d %q", operation, code, body)
	}
}

// notBetweenGroups checks that a segment with a namespace reaches only what its reach names.
func (g *groups) notBetweenGroups(t *testing.T) {
	peers := status(t).Segments["a"].Peers
	if len(peers) != 1 {
		t.Errorf("a knows %v", peers)
	}
	if len(g.apart) == 0 {
		return // the processes of one namespace are one trust domain
	}
	for _, to := range []string{"192.168.60.1", frontAddr, pseudo, clientAddr, peers["front"][0].String()} {
		err := process.Plane.In("a", func() error { return try(to + ":80") })
		if err == nil {
			t.Errorf("a reaches %s", to)
		}
	}
	alias := status(t).Segments["front"].Peers["a"][0]
	if err := process.Plane.In("front", func() error { return try(alias.String() + ":80") }); err != nil {
		t.Errorf("the front does not reach a: %v", err)
	}
}
