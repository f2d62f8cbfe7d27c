package listenaddr

import (
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Server is what an HTTP server says about its sites.
type Server struct {
	Listen []string
	Hosts  []string // of the host matchers of its routes
	TLS    bool
}

// Sites returns what servers serve by host name on segments. httpPort is the port on which
// Caddy redirects clients to HTTPS.
func Sites(servers []Server, httpPort uint16) (sites []config.Site) {
	for _, server := range servers {
		site := config.Site{Names: names(server.Hosts)}
		if server.TLS {
			site.Redirects = httpPort
		}
		ports := TCPPorts(server.Listen)
		for _, site.Segment = range slices.Sorted(maps.Keys(ports)) {
			site.Ports = ports[site.Segment]
			if server.TLS {
				site.Ports = append(site.Ports, http3(site.Ports, httpPort)...)
			}
			if len(site.Names) > 0 {
				sites = append(sites, site)
			}
		}
	}
	return sites
}

// http3 returns the UDP ports that belong to the ports of a server with TLS. Caddy has no TLS on
// the HTTP port.
func http3(ports []config.PortRange, httpPort uint16) (udp []config.PortRange) {
	for _, r := range ports {
		if r.First != httpPort {
			udp = append(udp, config.PortRange{Protocol: config.UDP, First: r.First, Last: r.Last})
		}
	}
	return udp
}

// names returns the hosts that a flow can ask for: neither addresses nor patterns that no steer
// rule can have.
func names(hosts []string) (names []string) {
	repl := caddy.NewReplacer()
	for _, host := range hosts {
		if name, err := config.HostPattern(repl.ReplaceAll(host, "")); err == nil {
			names = append(names, name)
		}
	}
	return names
}
