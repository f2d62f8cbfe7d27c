package caddyfile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// limit reads a limit of a segment:
//
//	limit flows <number>
//	limit flows_per_client <number>
//	limit new <number>/s
func limit(d *caddyfile.Dispenser, l *config.Limits) error {
	const want = "want limit flows <number>, limit flows_per_client <number> or limit new <number>/s"
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("limit: %s", want)
	}
	kind, text := args[0], args[1]
	target, known := map[string]*int{"flows": &l.Flows, "flows_per_client": &l.FlowsPerClient, "new": &l.New}[kind]
	if !known {
		return d.Errf("limit %s: there is no such limit; %s", kind, want)
	}
	if *target != 0 {
		return d.Errf("limit %s is given twice", kind)
	}
	n, err := limitNumber(kind, text)
	if err != nil {
		return d.WrapErr(err)
	}
	*target = n
	return nil
}

// limitNumber parses the number of a limit.
func limitNumber(kind, text string) (int, error) {
	number, want := text, "a number of flows, as in 10000"
	if kind == "new" {
		var perSecond bool
		want = "a number of new flows a second, as in 500/s"
		if number, perSecond = strings.CutSuffix(text, "/s"); !perSecond {
			return 0, fmt.Errorf("limit new %s: want %s", text, want)
		}
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > config.MaxLimit {
		return 0, fmt.Errorf("limit %s %s: want %s, 1 to %d", kind, text, want, config.MaxLimit)
	}
	return n, nil
}
