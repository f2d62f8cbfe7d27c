package paper

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// siteReady is how long the front has to get its certificate.
const siteReady = 10 * time.Second

// playFig18 puts the example in force and reads the web site with each version
// of HTTP.
func (l *lab) playFig18(ctx context.Context) (err error) {
	l.part("A front: one name, and each URL path from a segment of its own", pictureFig18,
		"The server's Caddyfile is Caddyfile.example as it comes", l.opts.Example)
	l.report.Progress("reloading with a front")
	if err := l.reloadWith(ctx, l.exampleHere()); err != nil {
		return err
	}
	if l.server, err = l.capture(l.network.Server, NICDevice, segmentA.device, segmentB.device, "vnic-F"); err != nil {
		return err
	}
	before, err := l.caddy.Accesses()
	if err != nil {
		return err
	}
	roots, err := l.caddy.Roots()
	if err != nil {
		return err
	}
	if err := l.waitForSite(ctx, roots, siteURL); err != nil {
		return l.explain(siteURL, err)
	}
	var paths, alternating []attempt
	for _, protocol := range []string{netlab.HTTP1, netlab.HTTP2, netlab.HTTP3} {
		l.report.Progress("reading %s over %s", siteURL, protocol)
		p, a, err := l.visitSite(ctx, netlab.WebOptions{Protocol: protocol, Address: l.pseudo, Roots: roots})
		if err != nil {
			return err
		}
		paths, alternating = append(paths, p...), append(alternating, a)
	}
	l.section(pathsSection(paths))
	l.section(alternatingSection(alternating))
	if err := l.playPassed(len(before)); err != nil {
		return err
	}
	return l.save(l.server, "fig18")
}

// exampleHere is Caddyfile.example with what it would take from the environment.
func (l *lab) exampleHere() string {
	return strings.NewReplacer(
		"{$VNIC_NIC:eth1}", NICDevice, "{$VNIC_ROOT_A:/srv/a}", l.root("a"), "{$VNIC_ROOT_B:/srv/b}", l.root("b"),
		"{$VNIC_ISSUER:acme}", "internal").Replace(l.opts.Example)
}

// root is the directory of a segment's web site.
func (l *lab) root(segment string) string { return filepath.Join(l.state, "site-"+segment) }

// writePages writes the two pages of Fig-18.
func (l *lab) writePages() error {
	for _, p := range []struct{ file, server string }{
		{l.root("a") + test1, segmentA.pageTitle}, {l.root("b") + test2, segmentB.pageTitle},
	} {
		html := fmt.Sprintf("<!DOCTYPE html>\n<title>%s</title>\n<h1>This is %s</h1>\n", p.server, p.server)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p.file), 0o755), os.WriteFile(p.file, []byte(html), 0o644)); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

// waitForSite waits until a site has its certificate.
func (l *lab) waitForSite(ctx context.Context, roots *x509.CertPool, url string) error {
	client, err := l.network.PC1.WebClient(netlab.WebOptions{Protocol: netlab.HTTP1, Address: l.pseudo, Roots: roots})
	if err != nil {
		return err
	}
	defer client.Close()
	for deadline := time.Now().Add(siteReady); ; {
		_, err := read(ctx, client, url)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// visitSite reads each path over one version of HTTP, then both by turns on one
// connection.
func (l *lab) visitSite(ctx context.Context, opts netlab.WebOptions) (paths []attempt, alternating attempt, err error) {
	client, err := l.network.PC1.WebClient(opts)
	if err != nil {
		return nil, attempt{}, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if opts.Protocol == netlab.HTTP1 {
		const plain = "http://www.example.com" + test1
		paths = append(paths, attempt{plain, "308, to HTTPS", l.visit(ctx, client, plain)})
		client.CloseIdleConnections()
	}
	opened := client.Connections()
	for _, v := range []attempt{
		{test1, segmentA.pageTitle + " by " + segmentA.device, ""},
		{test2, segmentB.pageTitle + " by " + segmentB.device, ""},
		{"/", "404 by no VNIC", ""},
	} {
		v.got = l.visit(ctx, client, siteURL+v.what)
		v.what += ", " + opts.Protocol
		paths = append(paths, v)
	}
	var servers []string
	for _, path := range []string{test1, test2, test1, test2} {
		got, err := read(ctx, client, siteURL+path)
		if err != nil {
			got.title = err.Error()
		}
		servers = append(servers, strings.TrimPrefix(got.title, "server-"))
	}
	alternating = attempt{"test1, test2, test1, test2, " + opts.Protocol, "A B A B, connections: 1", ""}
	alternating.got = fmt.Sprintf("%s, connections: %d", strings.Join(servers, " "), client.Connections()-opened)
	return paths, alternating, nil
}

// visit requests a page, and says what came and which VNIC carried the request.
func (l *lab) visit(ctx context.Context, client *netlab.WebClient, url string) string {
	since := time.Now()
	got, err := read(ctx, client, url)
	if err != nil {
		return err.Error()
	}
	if got.location == strings.Replace(url, "http:", "https:", 1) {
		return fmt.Sprintf("%d, to HTTPS", got.status)
	}
	if got.location != "" {
		return fmt.Sprintf("%d, to %s", got.status, got.location)
	}
	carriers, err := l.carriers(since, func(f netlab.Frame) bool {
		_, ok := netlab.RequestPath(f)
		return ok
	})
	if err != nil {
		return err.Error()
	}
	if got.status != http.StatusOK {
		return fmt.Sprintf("%d by %s", got.status, carriers)
	}
	return got.title + " by " + carriers
}

// playPassed looks back at what the VNICs carried and the sites have logged since their first
// accesses.
func (l *lab) playPassed(first int) error {
	frames, err := l.server.Frames()
	if err != nil {
		return fmt.Errorf("lab: capture: %w", err)
	}
	accesses, err := l.caddy.Accesses()
	if err != nil {
		return err
	}
	var clients []string
	for _, a := range accesses[first:] {
		clients = append(clients, a.Request.ClientIP)
	}
	slices.Sort(clients)
	l.section(l.passedSection(netlab.RequestPaths(frames, segmentA.index), netlab.RequestPaths(frames, segmentB.index), slices.Compact(clients)))
	return nil
}

// answer is what came of a request.
type answer struct {
	status   int
	location string
	page
}

func read(ctx context.Context, client *netlab.WebClient, url string) (a answer, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	resp, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Location"), parsePage(string(body))}, err
}
