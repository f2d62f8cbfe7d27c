package paper

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// playNames plays the idea of Fig-18 in the bridge itself: it chooses the segment by the host name
// that the client asks for, and the segments' servers talk TLS with the client.
func (l *lab) playNames(ctx context.Context) error {
	l.part("Names: one address, and each domain from a segment of its own", pictureNames, "The server's Caddyfile", caddyfileNames)
	l.report.Progress("reloading with names")
	if err := l.reloadWith(ctx, l.addresses.Replace(caddyfileNames)); err != nil {
		return err
	}
	roots, err := l.caddy.Roots()
	if err != nil {
		return err
	}
	var visits []attempt
	for _, protocol := range []string{netlab.HTTP1, netlab.HTTP2, netlab.HTTP3} {
		for _, site := range []struct {
			url     string
			segment segmentFigures
		}{{"https://a.example.com", l.a}, {"https://b.example.com", l.b}} {
			l.report.Progress("reading %s over %s", site.url, protocol)
			if err := l.waitForSite(ctx, roots, site.url); err != nil {
				return l.explain(site.url, err)
			}
			got, err := l.visitNamed(ctx, site.url, netlab.WebOptions{Protocol: protocol, Address: l.pseudo, Roots: roots})
			if err != nil {
				return err
			}
			visits = append(visits, attempt{site.url + ", " + protocol, fmt.Sprintf("%s, for %s", site.segment.pageTitle, l.pc1), got})
		}
	}
	l.section(namesSection(visits))
	return nil
}

// visitNamed reads a page by a connection of its own, and says who served whom.
func (l *lab) visitNamed(ctx context.Context, url string, opts netlab.WebOptions) (got string, err error) {
	client, err := l.network.PC1.WebClient(opts)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	a, err := read(ctx, client, url)
	if err != nil {
		return err.Error(), nil
	}
	return fmt.Sprintf("%s, for %s", a.title, a.client), nil
}
