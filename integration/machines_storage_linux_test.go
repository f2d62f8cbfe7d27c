package integration_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/examples"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// The two machines of the page have one storage: the second one serves the certificate that one of
// them has obtained, and resumes the TLS sessions that the first one has begun.
func TestOneStorage(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		p := newMachines(t, datapath)
		p.serveDNS(p.PC1, map[string]netip.Addr{"acme.example.com.": paper.PC1Addr, "www.example.com.": paper.PseudoAddr})
		program := p.withNameserver(paper.PC1Addr)
		root := p.startACMEServer(program)
		storage := filepath.Join(p.dir, "storage")
		for _, m := range p.machines {
			m.program = program
			p.ip(m.host, "route add default via 192.168.1.1")
		}
		p.startBoth(p.start)
		first, second := p.active(), p.standby()
		for _, m := range []*twin{first, second} { // a challenge needs the address
			m.vnic("caddy reload --config " + m.withSharedTickets(p.httpsCaddyfile(m, storage, root)))
		}
		p.wantPage(root, "machine "+first.name)

		client := &tls.Config{RootCAs: rootsIn(t, root), ServerName: "www.example.com"}
		p.waitFor("the other machine has the certificate", func() bool { return second.shakesHands(client) })
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		if p.visit(client, first).DidResume {
			t.Error("the first connection resumes a session")
		}
		first.vnic(examples.Beginning(t, twoServers, "caddy vnic drain"))
		p.waitFor("the other machine has the address", func() bool { return p.active() == second })
		if !p.visit(client, second).DidResume {
			t.Error("the other machine does not resume the session")
		}
		client.ClientSessionCache = nil
		certificate := p.visit(client, second).PeerCertificates[0]
		first.vnic(examples.Beginning(t, twoServers, "caddy vnic activate"))
		p.waitFor("the first machine is fit", func() bool { return first.failover().Fit })
		second.stopCaddy()
		p.waitFor("the first machine has the address", func() bool { return first.failover().State == vnicbridge.BridgeIsActive })
		if before := p.visit(client, first).PeerCertificates[0]; !before.Equal(certificate) {
			t.Errorf("the machines serve the certificates %v and %v", before.SerialNumber, certificate.SerialNumber)
		}
	})
}

// httpsCaddyfile is the page's Caddyfile with the storage of the test, and its certificate authority.
func (p *pair) httpsCaddyfile(m *twin, storage, root string) string {
	p.t.Helper()
	issuer := fmt.Sprintf("bind vnic/a\ntls {\nissuer acme {\ndir https://acme.example.com/acme/local/directory\ntrusted_roots %s\n}\n}", root)
	config := examples.Beginning(p.t, twoServers, "{\n\tstorage ")
	return p.replaced(twoServers, config, append(p.ownNames(m), [2]string{"/srv/caddy", storage}, [2]string{"bind vnic/a", issuer}))
}

// withSharedTickets makes JSON of a Caddyfile, by the command of the page, and returns its file.
func (m *twin) withSharedTickets(config string) string {
	m.s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		m.s.t.Fatal(err)
	}
	m.write("Caddyfile", config)
	command := strings.NewReplacer("caddy adapt", self+" adapt", "/etc/caddy/", m.dir+"/").Replace(examples.Beginning(m.s.t, twoServers, "caddy adapt"))
	m.s.run(m.host, "env", append(m.environment(), "sh", "-ec", command)...)
	return m.path("caddy.json")
}

// shakesHands tells whether the machine's own Caddy has a certificate for a client.
func (m *twin) shakesHands(client *tls.Config) bool {
	raw, err := m.host.DialContext(m.s.t.Context(), "tcp", "192.168.50.1:443")
	if err != nil {
		return false
	}
	defer raw.Close()
	return tls.Client(raw, client).HandshakeContext(m.s.t.Context()) == nil
}

// visit fetches the site from PC1 by a connection of its own, and returns what TLS says about it.
func (p *pair) visit(config *tls.Config, by *twin) tls.ConnectionState {
	p.t.Helper()
	raw, err := p.PC1.DialContext(p.t.Context(), "tcp", "192.168.1.2:443")
	if err != nil {
		p.t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	conn := tls.Client(raw, config)
	request, err := http.NewRequest(http.MethodGet, "https://www.example.com/", nil)
	if err == nil {
		err = request.Write(conn)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), request) // the ticket comes before
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if got := string(page); err != nil || got != "machine "+by.name {
		p.t.Errorf("the page says %q (%v), not machine %s", got, err, by.name)
	}
	return conn.ConnectionState()
}
