package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/http1"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/leanproxy"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/listenaddr"
	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/process"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func init() {
	caddy.RegisterModule(new(Proxy))
	httpcaddyfile.RegisterHandlerDirective("vnic_proxy", parseProxy)
	httpcaddyfile.RegisterDirectiveOrder("vnic_proxy", httpcaddyfile.After, "reverse_proxy")
}

// unlimited keeps reverse_proxy from closing tunnels. If a block has no
// stream_close_delay, a reload keeps the block's tunnels, as it keeps all flows.
const unlimited = caddy.Duration(math.MaxInt64)

// Proxy hands requests on to the servers of other segments. It is the reverse_proxy
// handler with the same fields. Its upstreams are segments, as in "a:80" (default: port
// 80), and cannot be dynamic.
//
// The handler's own server must listen on exactly one segment, and the `reach` of that
// segment must name the upstreams. Requests leave through that segment's VNIC. Each
// upstream becomes the alias under which the one segment sees the other: an IPv4 address if
// both segments have one, and otherwise an IPv6 address. The alias follows from the
// configuration alone. Clients of both families reach the upstream by it.
//
// If the options of the handler and a request are plain, the lean proxy serves the
// request. The placeholder `{http.vnic_proxy.path}` tells which way a request went: "fast"
// for the lean proxy, or "reverse_proxy".
type Proxy struct {
	leanproxy.Handler

	segments map[string]string // names by the addresses that are dialed
	ways     []process.Way
	known    *process.Proxy // nil before the embedded handler's Provision has begun
}

// CaddyModule returns the Caddy module information.
func (*Proxy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.vnic_proxy", New: func() caddy.Module { return new(Proxy) }}
}

// parseProxy reads the directive:
//
//	vnic_proxy [<matcher>] <segment>[:<port>]… {
//	    # the subdirectives of reverse_proxy
//	}
func parseProxy(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := new(Proxy)
	if err := p.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	if err := p.FinalizeUnmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	if err := p.checkUpstreams(); err != nil {
		return nil, h.WrapErr(err)
	}
	return p, p.checkSegments(h)
}

// checkSegments refuses upstreams that are not segments of the Caddyfile. An error has the
// line of the directive.
func (p *Proxy) checkSegments(h httpcaddyfile.Helper) error {
	var config config.Config
	if app, ok := h.Option("vnic").(httpcaddyfile.App); ok {
		if err := json.Unmarshal(app.Value, &config); err != nil {
			return h.WrapErr(err)
		}
	}
	h.Reset()
	h.Next()
	for _, dial := range p.dials() {
		at, err := upstreamAddress(*dial)
		if err == nil {
			err = listenaddr.CheckSegment(&config, at.Host)
		}
		if err != nil {
			return h.WrapErr(err)
		}
	}
	return nil
}

// upstreamAddress parses a segment's name and a port.
func upstreamAddress(dial string) (caddy.NetworkAddress, error) {
	at, err := caddy.ParseNetworkAddressWithDefaults(dial, "tcp", 80)
	if err != nil || at.Network != "tcp" || at.PortRangeSize() != 1 {
		return at, fmt.Errorf("upstream %q: want <segment> or <segment>:<port>", dial)
	}
	return at, nil
}

func (p *Proxy) checkUpstreams() error {
	if p.DynamicUpstreamsRaw != nil {
		return errors.New("upstreams are segments by their names, and cannot be dynamic")
	}
	if len(p.Upstreams) == 0 {
		return errors.New("want the segments to hand requests on to, as in vnic_proxy a")
	}
	return nil
}

// Provision replaces the segments' names by addresses, and sets up the reverse proxy.
func (p *Proxy) Provision(ctx caddy.Context) error {
	if err := p.checkUpstreams(); err != nil {
		return err
	}
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	own, err := app.ownSegment(ctx)
	if err != nil {
		return err
	}
	p.segments = make(map[string]string)
	for _, dial := range p.dials() {
		if err := p.resolve(app, own, dial); err != nil {
			return err
		}
	}
	if err := p.setTransport(ctx, app, own); err != nil {
		return err
	}
	if p.StreamCloseDelay == 0 {
		p.StreamCloseDelay = unlimited
	}
	p.known = &process.Proxy{
		Connections: &p.Handler, Ways: p.ways, Segments: p.segments, KeepTunnels: p.StreamCloseDelay == unlimited,
	}
	process.Proxies.Enter(p.known)
	if untested != nil {
		p.Disable()
	}
	if err := p.Handler.Provision(ctx); err != nil {
		return err
	}
	if p.IsLean() {
		http1.Serve(ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server))
	}
	return nil
}

// Cleanup undoes what Provision has done.
func (p *Proxy) Cleanup() error {
	if p.known == nil {
		return nil
	}
	err := p.Handler.Cleanup()
	process.Proxies.Leave(p.known)
	return err
}

// ownSegment returns the segment that the server of a handler listens on.
func (a *App) ownSegment(ctx caddy.Context) (string, error) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return "", errors.New("vnic_proxy works only in a site of an HTTP server")
	}
	segments := listenaddr.Segments(server.Listen)
	if len(segments) == 1 {
		_, err := a.segment(segments[0])
		return segments[0], err
	}
	if len(segments) > 1 {
		return "", fmt.Errorf("the site is bound to the segments %s, but its requests must leave by one segment: make a site for each segment", strings.Join(segments, " and "))
	}
	return "", fmt.Errorf("the site listens on %s, not on a segment: add `bind vnic/<segment>` to it", strings.Join(server.Listen, " "))
}

// dials returns the fields that name a segment.
func (p *Proxy) dials() (fields []*string) {
	for _, upstream := range p.Upstreams {
		fields = append(fields, &upstream.Dial)
	}
	if h := p.HealthChecks; h != nil && h.Active != nil && h.Active.Upstream != "" {
		fields = append(fields, &h.Active.Upstream)
	}
	return fields
}

// resolve replaces a segment by the alias under which the site's own segment sees it.
func (p *Proxy) resolve(app *App, own string, dial *string) error {
	at, err := upstreamAddress(*dial)
	if err != nil {
		return err
	}
	segment, err := app.segment(at.Host)
	if err != nil {
		return err
	}
	if !slices.Contains(app.Segments[own].Reach, at.Host) {
		return fmt.Errorf("segment %s, to which the site is bound, may not reach segment %s: add `reach %s` to it", own, at.Host, at.Host)
	}
	port := uint16(at.StartPort)
	lets := func(r config.PortRange) bool { return r.Contains(config.TCP, port) }
	if segment.Ports != nil && !slices.ContainsFunc(segment.Ports, lets) {
		return fmt.Errorf("the ports of segment %s do not let tcp/%d in: add tcp/%d to the ports", at.Host, port, port)
	}
	alias, _ := app.AnyPeerAlias(own, at.Host) // exists, because own may reach the segment
	*dial = net.JoinHostPort(alias.String(), strconv.Itoa(int(port)))
	p.segments[*dial] = at.Host
	p.ways = append(p.ways, process.Way{From: own, To: *dial})
	app.fronts.proxied[at.Host] = true
	return nil
}

// ServeHTTP hands a request on. If that fails, the error names the segment.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	p.known.Begin()
	defer p.known.End()
	err := p.Handler.ServeHTTP(w, r, next)
	failed, ok := errors.AsType[caddyhttp.HandlerError](err)
	if !ok || failed.Err == nil || failed.StatusCode < http.StatusBadGateway {
		return err
	}
	failed.Err = fmt.Errorf("segment %s: %w", p.chosen(r), failed.Err)
	return failed
}

// chosen names the segment that a request was last handed on to. If none was chosen, it
// names all candidates.
func (p *Proxy) chosen(r *http.Request) string {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	dialed, _ := repl.GetString("http.reverse_proxy.upstream.hostport")
	if name, ok := p.segments[dialed]; ok {
		return name
	}
	var all []string
	for _, upstream := range p.Upstreams {
		all = append(all, p.segments[upstream.Dial])
	}
	return strings.Join(all, ", ")
}

var (
	_ caddy.Provisioner           = (*Proxy)(nil)
	_ caddy.CleanerUpper          = (*Proxy)(nil)
	_ caddyhttp.MiddlewareHandler = (*Proxy)(nil)
)
