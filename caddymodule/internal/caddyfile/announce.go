package caddyfile

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// announce reads by which routing table routers learn of the bridge's addresses:
//
//	announce route table <number>
func announce(d *caddyfile.Dispenser, b *config.Bridge) error {
	args := d.RemainingArgs()
	if len(args) != 3 || args[0] != "route" || args[1] != "table" {
		return d.Errf("announce: want announce route table and the number of a routing table, as in announce route table 176")
	}
	table, err := strconv.Atoi(args[2])
	if err != nil {
		return d.Errf("announce route table %s: want a number, as in 176", args[2])
	}
	b.Announce = &config.Announce{Table: table}
	return nil
}
