package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// groupsConfig is Caddy with two groups by path. It keeps as many idle connections to a
// group's server as there are clients, and listens only to TCP.
const groupsConfig = `{
	auto_https disable_redirects
	default_sni %[1]s
	skip_install_trust
	servers {
		protocols h1 h2
	}
%[2]s}

(idle) {
	transport http {
		keepalive_idle_conns_per_host 256
	}
}

(groups) {
	bind %[3]s
	handle /test1/* {
		%[4]s {
			import idle
		}
	}
	handle /test2/* {
		%[5]s {
			import idle
		}
	}
}

http:// {
	import groups
}

https:// {
	import groups
	tls %[6]s %[7]s
}
`

// vnicConfig has the groups' segments and the front.
const vnicConfig = `	vnic {
		segment a {
			interface vnic-A
			address %[2]s
			ports tcp/80
		}
		segment b {
			interface vnic-B
			address %[3]s
			ports tcp/80
		}
		segment front {
			interface vnic-F
			address %[4]s
			client_ip preserve
			reach a b
		}
		bridge lan {
			nic nic0
			address %[5]s
			gateway %[6]s
			steer front port tcp/80 tcp/443
		}
		datapath %[1]s
	}
`

// groupUpstreams returns the directives that pass requests on to segments a and b.
type groupUpstreams func(*site) (a, b string)

// viaVNICProxy passes requests on as users of caddy-vnic do.
func viaVNICProxy(*site) (a, b string) { return "vnic_proxy a", "vnic_proxy b" }

// viaReverseProxy uses Caddy's own proxy, which dials the segments' aliases. It shows what
// the VNICs alone cost.
func viaReverseProxy(s *site) (a, b string) {
	at := func(p netip.Prefix) []netip.Prefix { return []netip.Prefix{p} }
	cfg := config.Config{Segments: map[string]*config.Segment{
		"a": {Addresses: at(s.inner)}, "b": {Addresses: at(s.other)},
		"front": {Addresses: at(s.front), Reach: []string{"a", "b"}},
	}}
	toA, _ := cfg.AnyPeerAlias("front", "a")
	toB, _ := cfg.AnyPeerAlias("front", "b")
	return stockUpstream(toA), stockUpstream(toB)
}

func stockUpstream(at netip.Addr) string {
	return "reverse_proxy " + netip.AddrPortFrom(at, httpPort).String()
}

// startGroups starts the front and the groups' segments.
func startGroups(datapath string, upstreams groupUpstreams) func(context.Context, *site) error {
	return func(ctx context.Context, s *site) error {
		a, b := upstreams(s)
		vnics := fmt.Sprintf(vnicConfig, datapath, s.inner, s.other, s.front, s.public, s.gateway.Addr())
		if err := s.startCaddy(ctx, s.groupsConfig(vnics, "vnic/front", a, b)); err != nil {
			return err
		}
		return s.checkDatapath(ctx, datapath)
	}
}

// startStockCaddy starts Caddy without VNICs. It reaches the servers on lo.
func startStockCaddy(ctx context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	return s.startCaddy(ctx, s.groupsConfig("", s.public.Addr().String(), stockUpstream(s.inner.Addr()), stockUpstream(s.other.Addr())))
}

func (s *site) groupsConfig(global, bind, a, b string) string {
	return fmt.Sprintf(groupsConfig, siteName, global, bind, a, b, s.bench.path(certificateFile), s.bench.path(keyFile))
}
