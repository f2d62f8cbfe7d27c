package integration_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// startByName starts Caddy with sitesByName.
func (s *scene) startByName(datapath string) {
	s.t.Helper()
	s.start(caddyfile{
		datapath: datapath, families: "46",
		policy: "steer a name A.example.com\nsteer b name *.b.example.com\nlb_policy first b",
		global: "skip_install_trust",
		sites:  sitesByName,
	})
	s.waitForCertificate("192.168.50.1:443", "a.example.com")
	s.waitForCertificate("192.168.60.1:443", "www.b.example.com")
}

// waitForCertificate waits until a site serves its certificate. Caddy's log says that it has one
// before it serves it.
func (s *scene) waitForCertificate(address, host string) {
	s.t.Helper()
	s.waitFor("site "+host+" has a certificate", func() bool {
		conn, err := s.Server.DialContext(s.t.Context(), "tcp", address)
		if err != nil {
			return false
		}
		defer conn.Close()
		return tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true}).HandshakeContext(s.t.Context()) == nil
	})
}

// Rows N2 and N10: HTTP/3 clients reach the segment of the name that they ask for, over both
// families.
func TestHTTP3ByName(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.startByName(datapath)
		roots, err := s.caddy.Roots()
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []struct{ address, client netip.Addr }{{paper.PseudoAddr, paper.PC1Addr}, {paper.PseudoAddr6, paper.PC1Addr6}} {
			for host, segment := range map[string]string{"a.example.com": "a", "www.b.example.com": "b"} {
				client, err := s.PC1.WebClient(netlab.WebOptions{Protocol: netlab.HTTP3, Address: at.address, Roots: roots})
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				got, err := fetch(&client.Client, "https://"+host+"/")
				if want := fmt.Sprintf("%s %s HTTP/3.0", segment, at.client); err != nil || got != want {
					t.Errorf("%s at %s: got %q (%v), want %q", host, at.address, got, err, want)
				}
			}
		}
	})
}

// Row N10: a client whose NAT gives it another port in the middle of a connection goes on with the
// same server, although the policy would give a new flow to the other segment.
func TestQUICClientBehindARebindingNAT(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		s.start(caddyfile{
			datapath: datapath, families: "46", policy: "steer a name localhost\nlb_policy first b", global: "skip_install_trust",
			// The client sends this name if it is given an address.
			sites: "localhost {\nbind vnic/a\ntls internal\nrespond \"a {remote_host} {http.request.proto}\"\n}\n" + pages,
		})
		s.waitForCertificate("192.168.50.1:443", "localhost")
		for _, at := range []struct{ address, client netip.Addr }{{paper.PseudoAddr, paper.PC1Addr}, {paper.PseudoAddr6, paper.PC1Addr6}} {
			s.run(s.PC1, "gtlsclient", "--quiet", "--change-local-addr=300ms", "--nat-rebinding", "--delay-stream=600ms",
				"--exit-on-all-streams-close", "--timeout=5s", "--download="+s.dir, at.address.String(), "443", "https://localhost/got")
			got, err := os.ReadFile(filepath.Join(s.dir, "got"))
			if want := fmt.Sprintf("a %s HTTP/3.0", at.client); err != nil || string(got) != want {
				t.Errorf("at %s: got %q (%v), want %q", at.address, got, err, want)
			}
		}
		// Of each client both flows, of which a connection id has chosen the second, are the rule's (N12).
		var list flowlist.List
		if err := json.Unmarshal([]byte(s.vnic("flows", "--json", "--name", "localhost", "--protocol", "udp")), &list); err != nil {
			t.Fatal(err)
		}
		if list.Matched != 4 {
			t.Errorf("%d flows of the rule, want two of each client", list.Matched)
		}
	})
}
