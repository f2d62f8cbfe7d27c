package caddymodule

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// streaming checks that each part of a response arrives when it is written, as events must.
func (g *groups) streaming(t *testing.T) {
	arrived := make(chan struct{})
	g.serveOnB(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintln(w, "data: first")
		http.NewResponseController(w).Flush()
		select {
		case <-arrived:
			fmt.Fprintln(w, "data: second")
		case <-r.Context().Done():
		}
	})
	client, _ := g.client()
	resp, err := client.Get("http://" + pseudo + "/echo/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	if first, err := r.ReadString('\n'); first != "data: first\n" {
		t.Errorf("the first event is %q: %v", first, err)
	}
	close(arrived)
	if second, err := r.ReadString('\n'); second != "data: second\n" {
		t.Errorf("the second event is %q: %v", second, err)
	}
}

// leanProxy checks which requests the lean proxy serves, that a long body goes by splice, and
// that other requests go by reverse_proxy.
func (g *groups) leanProxy(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 256<<10)
	g.serveOnB(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		fmt.Fprint(w, body)
	})
	client, _ := g.client()
	for path, req := range map[string]*http.Request{
		"fast":          request(t, http.MethodGet, "http://"+pseudo+"/echo/", nil),
		"reverse_proxy": request(t, http.MethodPost, "http://"+pseudo+"/echo/", strings.NewReader("body")),
	} {
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if by := resp.Header.Get("X-Path"); by != path || err != nil || string(got) != body {
			t.Errorf("%s went by %q: %d bytes, %v", req.Method, by, len(got), err)
		}
	}
}
