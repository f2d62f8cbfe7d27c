package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// oddPaths checks that the meaning of a path decides its group, not its spelling.
func (g *groups) oddPaths(t *testing.T) {
	for target, want := range map[string]string{
		"/test1/../test2/":           "b",
		"/test1/%2e%2e/test2/":       "b",
		"/test1%2f..%2ftest2/":       "b",
		"//test2//":                  "b",
		"/TEST2/":                    "b",
		"http://192.168.60.1/test1/": "a",
		"/test1/x?y=/test2/":         "a",
	} {
		conn, err := g.dial(t.Context(), "tcp", pseudo+":80")
		if err != nil {
			t.Fatal(err)
		}
		deadline(t, conn)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, pseudo)
		answer, err := io.ReadAll(conn)
		conn.Close()
		if _, body, _ := strings.Cut(string(answer), "\r\n\r\n"); err != nil || !strings.HasPrefix(body, want+" ") {
			t.Errorf("%s: %q, %v; want %s", target, answer, err, want)
		}
	}
}

// byMore checks that any matcher can make a group.
func (g *groups) byMore(t *testing.T) {
	client, _ := g.client()
	for name, test := range map[string]struct {
		change func(*http.Request)
		want   string
	}{
		"nothing":      {func(*http.Request) {}, "a"},
		"cookie":       {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "group", Value: "canary"}) }, "b"},
		"other cookie": {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "group", Value: "canary2"}) }, "a"},
		"host":         {func(r *http.Request) { r.Host = "b.test" }, "b"},
		"header":       {func(r *http.Request) { r.Header.Set("X-Group", "b") }, "b"},
		"method":       {func(r *http.Request) { r.Method = http.MethodPut }, "b"},
		"forged":       {func(r *http.Request) { r.Header.Set("X-Forwarded-For", "10.20.0.1") }, "a"},
	} {
		req := request(t, http.MethodGet, "http://"+pseudo+"/more/", nil)
		test.change(req)
		if code, body := ask(t, client, req); code != http.StatusOK || body != saw(test.want, "/more/") {
			t.Errorf("%s: %d %q, want %s", name, code, body, test.want)
		}
	}
}

// alternate makes requests to both groups in turn.
func alternate(t *testing.T, client *http.Client, site string) {
	t.Helper()
	for range 10 {
		for path, segment := range map[string]string{"/test1/": "a", "/test2/": "b"} {
			if code, body := ask(t, client, request(t, http.MethodGet, site+path, nil)); code != http.StatusOK || body != saw(segment, path) {
				t.Fatalf("%s%s: %d %q, want %q", site, path, code, body, saw(segment, path))
			}
		}
	}
}
