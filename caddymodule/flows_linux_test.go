package caddymodule

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/journal"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

const flowsURL = "http://localhost:2019/vnic/flows"

// listFlows lists the flows that segment a opens to its gateway: by the API and the command,
// as a table, as JSON, and live.
func listFlows(t *testing.T) {
	mustLoad(t, running)
	for _, to := range []string{"192.168.50.2:53", "192.168.50.2:123"} {
		sendDatagram(t, "192.168.50.1", to)
	}
	expectFlows(t, "", 2)
	expectFlows(t, "?segment=a&state=half_open&protocol=udp&bridge=lan&client=192.168.50.0/24&limit=10", 2)
	for _, none := range []string{"?segment=b", "?state=closing", "?protocol=icmp", "?client=192.168.50.2"} {
		expectFlows(t, none, 0)
	}
	if list := expectFlows(t, "?limit=1", 1); list.Matched != 2 {
		t.Errorf("%d match, want 2", list.Matched)
	}
	for query, message := range map[string]string{
		"?segment=z":       `unknown segment \"z\": the configuration has a, b`,
		"?bridge=z":        `unknown bridge \"z\": the configuration has lan`,
		"?state=new":       "half_open, established or closing",
		"?protocol=sctp":   "tcp, udp or icmp",
		"?client=somebody": "an address or a network",
		"?limit=0":         "want 1 to 10000",
		"?limit=10001":     "want 1 to 10000",
		"?sort=age":        "want bridge, client, limit, name, protocol, segment, state",
	} {
		expectAPI(t, http.MethodGet, flowsURL+query, http.StatusBadRequest, message)
	}
	expectAPI(t, http.MethodPost, flowsURL, http.StatusMethodNotAllowed, "use GET")

	listClients(t)

	table := mustRun(t, "flows", "--client", "192.168.50.1")
	for _, want := range []string{"2 of 2 flows", "udp", "half_open", "192.168.50.2:53", "192.168.50.2:123", "192.168.1.1:53", "192.168.1.2:"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %s:\n%s", want, table)
		}
	}
	if table := mustRun(t, "flows", "--segment", "b"); !strings.Contains(table, "0 of 0 flows") {
		t.Errorf("of b it is\n%s", table)
	}
	if err := json.Unmarshal([]byte(mustRun(t, "flows", "--json", "--limit", "1")), new(flowlist.List)); err != nil {
		t.Errorf("--json: %v", err)
	}
	expectUsage(t, "flows", "the configuration has a, b", "--segment", "z")
	watchFlows(t)
}

// listClients lists the clients of those flows, and the events so far.
func listClients(t *testing.T) {
	const clientsURL, eventsURL = "http://localhost:2019/vnic/clients", "http://localhost:2019/vnic/events"
	code, body := fetch(t, http.MethodGet, clientsURL+"?segment=a&limit=1")
	var clients flowlist.ClientList
	if err := json.Unmarshal([]byte(body), &clients); code != http.StatusOK || err != nil {
		t.Fatalf("clients are answered %d %q: %v", code, body, err)
	}
	if clients.Matched != 2 || len(clients.Clients) != 1 || clients.Clients[0].Address.String() != "192.168.50.1" || clients.Clients[0].Flows != 2 {
		t.Errorf("the clients are %+v", clients)
	}
	expectAPI(t, http.MethodGet, clientsURL+"?segment=z", http.StatusBadRequest, "the configuration has a, b")
	expectAPI(t, http.MethodPost, clientsURL, http.StatusMethodNotAllowed, "use GET")

	var list struct{ Events []journal.Event }
	code, body = fetch(t, http.MethodGet, eventsURL)
	if err := json.Unmarshal([]byte(body), &list); code != http.StatusOK || err != nil {
		t.Fatalf("events are answered %d %q: %v", code, body, err)
	}
	switched := slices.ContainsFunc(list.Events, func(e journal.Event) bool {
		return e.Message == "the bridge was switched" && e.Level == slog.LevelInfo && e.Attributes["to"] == "b"
	})
	if !switched {
		t.Errorf("that the bridge was switched is not among the events %s", body)
	}
	expectAPI(t, http.MethodDelete, eventsURL, http.StatusMethodNotAllowed, "use GET")
	const historyURL = "http://localhost:2019/vnic/history"
	expectAPI(t, http.MethodGet, historyURL, http.StatusOK, `"segments":{`)
	expectAPI(t, http.MethodPost, historyURL, http.StatusMethodNotAllowed, "use GET")
}

// sendDatagram sends a datagram that nobody answers.
func sendDatagram(t *testing.T, from, to string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	c, err := dialer.Dial("udp4", to)
	if err == nil {
		_, err = c.Write([]byte("anybody there?"))
		c.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// expectFlows waits until the API lists the wanted number of flows.
func expectFlows(t *testing.T, query string, want int) (list flowlist.List) {
	t.Helper()
	listed := eventually(func() bool {
		code, body := fetch(t, http.MethodGet, flowsURL+query)
		if err := json.Unmarshal([]byte(body), &list); code != http.StatusOK || err != nil {
			t.Fatalf("%s answers %d %q: %v", query, code, body, err)
		}
		return len(list.Flows) == want
	})
	if !listed {
		t.Errorf("%s lists %+v, want %d flows", query, list, want)
	}
	return list
}

// watchFlows runs `caddy vnic flows --watch` until the second list has come.
func watchFlows(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &lines{until: 2, done: cancel}
	cmd := vnicCommand()
	cmd.SetOut(out)
	cmd.SetArgs([]string{"flows", "--watch", "--json", "--address", "localhost:2019"})
	if err := cmd.ExecuteContext(ctx); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(out.text.String()) {
		var list flowlist.List
		if err := json.Unmarshal([]byte(line), &list); err != nil || list.Matched != 2 {
			t.Errorf("watched is %q: %v", line, err)
		}
	}
	if out.until != 0 {
		t.Errorf("%d lists are missing", out.until)
	}
}

// lines is a writer that reports when a number of lines has been written.
type lines struct {
	text  strings.Builder
	until int
	done  func()
}

func (l *lines) Write(p []byte) (int, error) {
	if l.until -= strings.Count(string(p), "\n"); l.until == 0 {
		l.done()
	}
	return l.text.Write(p)
}
