package integration_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// A site whose name has an IPv6 address alone gets its certificate: the CA's challenges come
// to the segment by IPv6. The site has both families, or IPv6 alone, which then also reaches
// the DNS server and the CA.
func TestSiteObtainsACertificateByIPv6(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		for families, ca := range map[string]netip.Addr{"46": paper.PC1Addr, "6": paper.PC1Addr6} {
			for _, without := range []string{"http", "tlsalpn"} {
				t.Run(families+" without "+without, func(t *testing.T) {
					t.Parallel()
					s := newScene(t, paper.NetworkOptions{IPv6: true})
					dns := s.serveDNSOn(s.PC1, netip.AddrPortFrom(ca, 53).String(), map[string]netip.Addr{
						"acme.example.com.": ca, "www.example.com.": paper.PseudoAddr6,
					})
					program := s.withNameserver(ca)
					root := s.startACMEServer(program)
					err := s.tryStartBy(program, caddyfile{
						datapath: datapath, families: families, a: wayOut, global: "skip_install_trust", sites: fmt.Sprintf(`
www.example.com {
	bind vnic/a
	tls {
		issuer acme {
			dir https://acme.example.com/acme/local/directory
			trusted_roots %s
			disable_%s_challenge
		}
	}
	respond "the site"
}
`, root, without),
					}.String())
					if err != nil {
						t.Fatal(err)
					}
					s.wantPageAt(paper.PseudoAddr6, root, "the site")
					if families == "46" {
						s.wantPageAt(paper.PseudoAddr, root, "the site")
					}
					if asker := map[string]netip.Addr{"46": paper.PseudoAddr, "6": paper.PseudoAddr6}[families]; !dns.askedBy(asker) {
						t.Errorf("the site's DNS queries did not come from %s", asker)
					}
				})
			}
		}
	})
}
