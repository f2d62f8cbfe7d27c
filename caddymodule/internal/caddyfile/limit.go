package caddyfile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// limit reads a limit of a segment:
//
//	limit rate <bits/s> [<burst>]
//	limit flows <number>
//	limit flows_per_client <number>
//	limit new <number>/s
func limit(d *caddyfile.Dispenser, l *config.Limits) error {
	const want = "want limit rate <bits/s> [<burst>], limit flows <number>, limit flows_per_client <number> or limit new <number>/s"
	args := d.RemainingArgs()
	if len(args) > 1 && args[0] == "rate" {
		return rate(d, args[1:], l)
	}
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

// rate reads a limit of rates: the bits a second, and the bytes that may go at once after a
// pause.
func rate(d *caddyfile.Dispenser, args []string, l *config.Limits) error {
	switch {
	case len(args) > 2:
		return d.Errf("limit rate: want a rate and a burst, as in 100Mbit/s 1MiB")
	case l.Rate != 0:
		return d.Errf("limit rate is given twice")
	}
	bits, unit, err := humanize.ParseSI(args[0])
	if err != nil || unit != "" && unit != "bit" && unit != "bit/s" || bits < config.MinRate || bits > config.MaxRate {
		return d.Errf("limit rate %s: want bits a second, as in 100Mbit/s, 8kbit/s to 1Tbit/s", args[0])
	}
	l.Rate = int64(bits)
	if len(args) == 1 {
		return nil
	}
	burst, err := humanize.ParseBytes(args[1])
	if err != nil || burst < 1 || burst > config.MaxBurst {
		return d.Errf("limit rate %s %s: want a burst in bytes, as in 1MiB, at most 1GiB", args[0], args[1])
	}
	l.Burst = int64(burst)
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
