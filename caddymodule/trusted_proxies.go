package caddymodule

import (
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func init() { caddy.RegisterModule(new(FrontIPRange)) }

// FrontIPRange is a source of IP ranges for a server's trusted proxies. It trusts the
// addresses of the segments that may reach the segment on which the request arrived. If no
// segment may reach that segment, as on a front, it trusts nothing.
//
// Nobody can forge these addresses: the bridge drops packets that have such a source and
// come from outside, or from another segment.
type FrontIPRange struct {
	fronts map[netip.Addr][]netip.Prefix // by the address that the fronts dial
}

// CaddyModule returns the Caddy module information.
func (*FrontIPRange) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.ip_sources.vnic", New: func() caddy.Module { return new(FrontIPRange) }}
}

// Provision looks up which segments may reach which.
func (s *FrontIPRange) Provision(ctx caddy.Context) error {
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	s.fronts = make(map[netip.Addr][]netip.Prefix)
	for front, segment := range app.Segments {
		for _, reached := range segment.Reach {
			for f := range config.Families {
				s.trust(app, front, reached, f)
			}
		}
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		app.fronts.trusting[server] = true
	}
	return nil
}

// trust trusts a front's address of a family at the addresses of that family at which the
// front dials a segment.
func (s *FrontIPRange) trust(app *App, front, reached string, f config.Family) {
	// The alias leads only from this front to this segment. If the front lives in the host's
	// namespace, the host dials the segment's own address over lo.
	alias, both := app.PeerAlias(front, reached, f)
	if !both {
		return
	}
	address := app.Segments[front].Address(f).Addr()
	for _, to := range []netip.Addr{alias, app.Segments[reached].Address(f).Addr()} {
		s.fronts[to] = append(s.fronts[to], netip.PrefixFrom(address, address.BitLen()))
	}
}

// GetIPRanges returns the fronts of the segment on which a request arrived. The client has
// dialed the request's local address.
func (s *FrontIPRange) GetIPRanges(r *http.Request) []netip.Prefix {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return nil
	}
	return s.fronts[local.AddrPort().Addr().Unmap()]
}

// UnmarshalCaddyfile reads the name of the source, which takes no arguments:
//
//	trusted_proxies vnic
func (s *FrontIPRange) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the source's name
	if d.NextArg() {
		return d.ArgErr()
	}
	return nil
}

var (
	_ caddy.Provisioner       = (*FrontIPRange)(nil)
	_ caddyfile.Unmarshaler   = (*FrontIPRange)(nil)
	_ caddyhttp.IPRangeSource = (*FrontIPRange)(nil)
)
