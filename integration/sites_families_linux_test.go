package integration_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// clientsOfBoth are where PC1's requests come from and go to, in both families.
var clientsOfBoth = []struct {
	family         string
	client, dialed netip.Addr
}{
	{"4", paper.PC1Addr, paper.PseudoAddr},
	{"6", paper.PC1Addr6, paper.PseudoAddr6},
}

// familySite shows what Caddy knows of a client.
const familySite = `
https://www.example.com, https://192.168.1.2, https://[2001:db8:1::2] {
	bind vnic/a
	tls internal
	log
	respond "{http.request.proto} {remote_host} {http.request.local.host}"
}
`

// A site on a segment serves both families on one listener, over each version of HTTP. It
// shows the real client in both, in the page and in the log. This holds over reloads, which
// also take one of the families away and bring it back, after a stop, after the loss of the
// VNIC, after a restart, and in a namespace of the segment.
func TestSiteServesBothFamilies(t *testing.T) {
	t.Parallel()
	for _, families := range []string{"46", "6"} {
		for _, namespace := range []string{"", "in a namespace"} {
			t.Run(families+namespace, func(t *testing.T) {
				onEachDataPath(t, func(t *testing.T, datapath string) {
					s := newScene(t, paper.NetworkOptions{IPv6: true})
					config := caddyfile{datapath: datapath, families: families, global: "skip_install_trust", sites: familySite}
					if namespace != "" {
						config.a = "netns " + s.name + "-a"
					}
					s.start(config)
					clients := s.clientsOf(families)
					clients.ask("at first")
					s.reload(config)
					clients.ask("after a reload")
					if families == "46" {
						for _, c := range clientsOfBoth {
							config.families = c.family
							s.reload(config)
							s.clientsOf(c.family).ask("while there is only IPv" + c.family)
							config.families = families
							s.reload(config)
							s.clientsOf(families).ask("when the other one has come back")
						}
					}
					s.vnic("stop", "a")
					s.wantNobodyAt(families)
					s.vnic("activate", "a")
					s.clientsOf(families).ask("after a stop")
					s.ip(s.Server, "link del vnic-A")
					s.clientsOf(families).ask("after somebody has deleted the VNIC")
					s.wantRealClientsInTheLog(families)
					s.stop()
					s.start(config)
					s.clientsOf(families).ask("after a restart")
				})
			})
		}
	}
}

// familyClients are PC1's clients, each with its connections kept: one for each family and
// version of HTTP.
type familyClients struct {
	*scene
	all []familyClient
}

type familyClient struct {
	*netlab.WebClient
	dialed netip.Addr
	page   string // that the site must answer with
}

func (s *scene) clientsOf(families string) familyClients {
	s.t.Helper()
	opts := netlab.WebOptions{}
	s.waitFor("the internal issuer", func() (ok bool) {
		var err error
		opts.Roots, err = s.caddy.Roots()
		return err == nil
	})
	f := familyClients{scene: s}
	for _, c := range clientsOfBoth {
		if families != "46" && families != c.family {
			continue
		}
		for protocol, proto := range map[string]string{netlab.HTTP1: "HTTP/1.1", netlab.HTTP2: "HTTP/2.0", netlab.HTTP3: "HTTP/3.0"} {
			opts.Protocol, opts.Address = protocol, c.dialed
			client, err := s.PC1.WebClient(opts)
			if err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { client.Close() })
			f.all = append(f.all, familyClient{client, c.dialed, fmt.Sprintf("%s %s %s", proto, c.client, c.dialed)})
		}
	}
	return f
}

// ask requests the page with each client, by name and by address.
func (f familyClients) ask(when string) {
	f.t.Helper()
	for _, client := range f.all {
		for _, url := range []string{"https://www.example.com/", "https://" + netlab.URLHost(client.dialed) + "/"} {
			got := ""
			f.waitForQuietly(func() bool { // the first certificate takes a moment
				page, err := fetch(&client.Client, url)
				got = fmt.Sprint(page, " ", err)
				return page == client.page
			})
			if got != client.page+" <nil>" {
				f.t.Errorf("%s, %s shows %s, want %s", when, url, got, client.page)
			}
		}
	}
}

// waitForQuietly waits for up to 5 s.
func (s *scene) waitForQuietly(holds func() bool) {
	for end := time.Now().Add(5 * time.Second); !holds() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
}

// wantNobodyAt checks that PC1 gets no connection.
func (s *scene) wantNobodyAt(families string) {
	s.t.Helper()
	for _, c := range clientsOfBoth {
		if families != "46" && families != c.family {
			continue
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), 300*time.Millisecond)
		conn, err := s.PC1.DialContext(ctx, "tcp", netip.AddrPortFrom(c.dialed, 443).String())
		cancel()
		if err == nil {
			conn.Close()
			s.t.Errorf("a stopped segment accepts a connection to %s", c.dialed)
		}
	}
}

func (s *scene) wantRealClientsInTheLog(families string) {
	s.t.Helper()
	accesses, err := s.caddy.Accesses()
	if err != nil {
		s.t.Fatal(err)
	}
	requests := make(map[string]int)
	for _, a := range accesses {
		requests[a.Request.RemoteIP+" "+a.Request.Proto]++
	}
	for _, c := range clientsOfBoth {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0", "HTTP/3.0"} {
			of := c.client.String() + " " + proto
			if wanted := families == "46" || families == c.family; (requests[of] > 0) != wanted {
				s.t.Errorf("the log has %d requests of %s", requests[of], of)
			}
			delete(requests, of)
		}
	}
	if len(requests) > 0 {
		s.t.Errorf("the log has requests of others: %v", requests)
	}
}

// TestReloadsLoseNoRequestOfAFamily checks that reloads of the same configuration cost no
// request of either family.
func TestReloadsLoseNoRequestOfAFamily(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		config := caddyfile{datapath: datapath, families: "46", global: "skip_install_trust", sites: `
https://192.168.1.2, https://[2001:db8:1::2] {
	bind vnic/a
	tls internal
	respond "a"
}
`}
		s.start(config)
		for _, c := range clientsOfBoth {
			for _, kept := range []bool{false, true} {
				t.Run(fmt.Sprintf("IPv%s kept %v", c.family, kept), func(t *testing.T) {
					url := []string{"https://" + netlab.URLHost(c.dialed) + "/"}
					load := s.startRequestsTo(c.dialed, netlab.HTTP1, url, kept)
					defer load.finish(t)
					for range 10 {
						s.loadText(config.String())
						time.Sleep(20 * time.Millisecond) // of load on one configuration
					}
				})
			}
		}
	})
}
