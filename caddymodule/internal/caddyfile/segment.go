package caddyfile

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// segment reads a segment's block:
//
//	segment <name> {
//	    interface <device>
//	    device <name>
//	    address <address>/<bits>…
//	    mac <address>
//	    aliases <first>-<last>
//	    ports any|tcp/<port>|udp/<from>-<to>…
//	    client_ip translate|preserve
//	    weight <share>
//	    egress off|gateway|any
//	    reach <segments…>
//	    netns <name>
//	    health tcp|http/<port> [<path>] [from <segment>] { … }
//	    limit rate <bits/s> [<burst>]
//	    limit flows <number>
//	    limit flows_per_client <number>
//	    limit new <number>/s
//	    default_route
//	}
func (p *parser) segment(d *caddyfile.Dispenser) error {
	name, err := p.segments.define(d)
	if err != nil {
		return err
	}
	s := new(config.Segment)
	p.config.Segments[name] = s
	return parseBlock(d, "segment", p.segmentOptions(s))
}

func (p *parser) segmentOptions(s *config.Segment) options {
	return options{
		"interface":     {parse: word(&s.Interface)},
		"device":        {parse: word(&s.Device)},
		"address":       {parse: values(&s.Addresses, address), list: true},
		"mac":           {parse: value(&s.MAC, config.ParseMAC)},
		"aliases":       {parse: value(&s.Aliases, config.ParseAddrRange)},
		"ports":         {parse: values(&s.Ports, config.ParsePortRange), list: true},
		"client_ip":     {parse: word(&s.ClientIP)},
		"weight":        {parse: number(&s.Weight, "a share of new flows, 1 to "+strconv.Itoa(config.MaxWeight))},
		"egress":        {parse: word(&s.Egress)},
		"reach":         {parse: func(d *caddyfile.Dispenser) error { return p.reach(d, s) }, list: true},
		"netns":         {parse: word(&s.Netns)},
		"health":        {parse: func(d *caddyfile.Dispenser) error { return p.health(d, s) }},
		"limit":         {parse: func(d *caddyfile.Dispenser) error { return limit(d, &s.Limits) }, repeatable: true},
		"default_route": {parse: flag(&s.DefaultRoute)},
	}
}

// reach reads the segments that a segment may open flows to.
func (p *parser) reach(d *caddyfile.Dispenser, s *config.Segment) error {
	for d.NextArg() {
		s.Reach = append(s.Reach, p.refer(d))
	}
	if len(s.Reach) == 0 {
		return d.ArgErr()
	}
	return nil
}

// address parses an address with the prefix length of its network.
func address(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err == nil {
		return prefix, nil
	}
	own, bits, hasBits := strings.Cut(text, "/")
	switch addr, err := netip.ParseAddr(own); {
	case text == "dhcp" || text == "auto":
		return prefix, fmt.Errorf("address %s: segments do not use DHCP; want an address, as in 192.168.50.1/24", text)
	case err != nil:
		return prefix, fmt.Errorf("address %q: %q is no IP address; want one with its prefix length, as in 192.168.50.1/24 or fd00:50::1/64", text, own)
	case addr.Zone() != "":
		return prefix, fmt.Errorf("address %q: write it without %%%s", text, addr.Zone())
	case hasBits:
		return prefix, fmt.Errorf("address %q: %q is no prefix length; want 0 to %d, as in %s", text, bits, addr.BitLen(), example(addr))
	default:
		return prefix, fmt.Errorf("address %q: want the prefix length, too, as in %s", text, example(addr))
	}
}

// example returns an address of the family of another one, with its prefix length.
func example(of netip.Addr) string {
	if of.Is4() {
		return "192.168.50.1/24"
	}
	return "fd00:50::1/64"
}
