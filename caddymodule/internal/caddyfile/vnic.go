// Package caddyfile reads the global option vnic of a Caddyfile into a
// [vnicbridge.Config], and reports each mistake at its line.
package caddyfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Parse reads the global option, and returns the app vnic:
//
//	vnic {
//	    segment <name> { … }
//	    bridge <name> { … }
//	    datapath auto|kernel|userspace
//	    max_flows <number>
//	    key <32 hexadecimal digits>
//	}
func Parse(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // consume option name
	if existing != nil {
		return nil, d.Err("a second vnic block: put all segments and bridges into one")
	}
	if d.CountRemainingArgs() > 0 {
		return nil, d.ArgErr()
	}
	p := newParser()
	if err := p.vnic(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "vnic", Value: caddyconfig.JSON(p.config, nil)}, nil
}

// parser reads one vnic block.
type parser struct {
	config   config.Config
	segments definitions
	bridges  definitions
	uses     []use
}

// definitions are the places in the Caddyfile that define segments or bridges, by name.
type definitions map[string]caddyfile.Token

// use is a place that names a segment. The segment may be defined further down.
type use struct {
	segment string
	at      caddyfile.Token
	instead string // what may stand there if there is no such segment
}

// unknown returns the error for a use of a segment that is not defined. known are those that are.
func (u *use) unknown(known []string) error {
	err := config.UnknownSegment(u.segment, known)
	if u.instead == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, u.instead)
}

func newParser() *parser {
	return &parser{
		config: config.Config{
			Segments: make(map[string]*config.Segment),
			Bridges:  make(map[string]*config.Bridge),
		},
		segments: make(definitions),
		bridges:  make(definitions),
	}
}

func (p *parser) vnic(d *caddyfile.Dispenser) error {
	start := d.Token()
	err := parseBlock(d, "vnic", options{
		"segment":   {parse: p.segment, repeatable: true},
		"bridge":    {parse: p.bridge, repeatable: true},
		"datapath":  {parse: word(&p.config.Datapath)},
		"max_flows": {parse: number(&p.config.MaxFlows, "a number of flows, as in 1048576")},
		"key":       {parse: secret(&p.config.Key)},
	})
	if err != nil {
		return err
	}
	if len(p.segments) == 0 {
		return errAt(start, errors.New("vnic has no segment: add at least one, as in segment a { address 192.168.50.1/24 }"))
	}
	for _, u := range p.uses {
		if _, ok := p.segments[u.segment]; !ok {
			return errAt(u.at, u.unknown(slices.Sorted(maps.Keys(p.segments))))
		}
	}
	return p.validate(start)
}

// validate reports a mistake in a segment or bridge at the line that defines it.
func (p *parser) validate(start caddyfile.Token) error {
	err := p.config.Validate()
	if err == nil {
		return nil
	}
	at := start
	if part, ok := errors.AsType[*config.Error](err); ok {
		switch part.Part {
		case "segment":
			at = p.segments[part.Name]
		case "bridge":
			at = p.bridges[part.Name]
		}
	}
	return errAt(at, err)
}

// define records where a segment or bridge is defined, and returns its name.
func (known definitions) define(d *caddyfile.Dispenser) (string, error) {
	what := d.Val()
	var name string
	if !d.AllArgs(&name) {
		return "", d.Errf("%s takes one name, and its options in braces", what)
	}
	if first, ok := known[name]; ok {
		return "", d.Errf("a second %s %s: the first is on line %d", what, name, first.Line)
	}
	known[name] = d.Token()
	return name, nil
}

// refer records that the current token names a segment.
func (p *parser) refer(d *caddyfile.Dispenser) string {
	p.uses = append(p.uses, use{segment: d.Val(), at: d.Token()})
	return d.Val()
}
