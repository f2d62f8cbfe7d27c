package caddyfile

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// health reads how a segment is checked:
//
//	health tcp/<port>|http/<port> [<path>] [from <segment>] {
//	    interval <duration>
//	    timeout <duration>
//	    fails <number>
//	    passes <number>
//	}
func (p *parser) health(d *caddyfile.Dispenser, s *config.Segment) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	h, err := healthTarget(d.Val())
	if err != nil {
		return d.WrapErr(err)
	}
	for d.NextArg() {
		switch {
		case h.From != "" || d.Val() != "from" && h.Path != "":
			return d.ArgErr()
		case d.Val() != "from":
			h.Path = d.Val()
		case d.NextArg():
			h.From = p.refer(d)
		default:
			return d.ArgErr()
		}
	}
	s.Health = h
	return parseBlock(d, "health", options{
		"interval": {parse: value(&h.Interval, config.ParseDuration)},
		"timeout":  {parse: value(&h.Timeout, config.ParseDuration)},
		"fails":    {parse: number(&h.Fails, "a number of checks in a row, 1 or more")},
		"passes":   {parse: number(&h.Passes, "a number of checks in a row, 1 or more")},
	})
}

// healthTarget parses the protocol and port of a check.
func healthTarget(text string) (*config.Health, error) {
	protocol, port, _ := strings.Cut(text, "/")
	ports, err := config.ParsePortRange("tcp/" + port)
	if err != nil || ports.First != ports.Last || (protocol != "tcp" && protocol != "http") {
		return nil, fmt.Errorf("health %q: want tcp/<port> or http/<port>", text)
	}
	return &config.Health{Protocol: config.HealthProtocol(protocol), Port: ports.First}, nil
}
