package caddyfile

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// failover reads who decides whether the bridge has its addresses:
//
//	failover keepalived <instance> {
//	    fifo <path>
//	    track <path>
//	}
func failover(d *caddyfile.Dispenser, b *config.Bridge) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.Errf("failover: want failover keepalived and the name of its vrrp_instance, as in failover keepalived VI_lan")
	}
	b.Failover = &config.Failover{Engine: config.FailoverEngine(args[0]), Instance: args[1]}
	return parseBlock(d, "failover", options{
		"fifo":  {parse: word(&b.Failover.FIFO)},
		"track": {parse: word(&b.Failover.Track)},
	})
}
