package checkup

import (
	"os/exec"
	"slices"
	"strings"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// otherMachines warns of what keeps another machine from going on as this one would, and of what is
// missing for others to hear that this one is fit.
func (c *checkup) otherMachines() {
	elected, announced := false, false
	for _, name := range config.SortedKeys(c.cfg.Bridges) {
		b, option := c.cfg.Bridges[name], "failover"
		switch {
		case b.Failover != nil:
			elected = true
		case b.Announce != nil:
			announced, option = true, "announce"
		default:
			continue
		}
		if c.cfg.Key.IsZero() {
			c.warn("bridge %s: %s without a key: the other machine gives clients other aliases and segments; give both the same one, key with what openssl rand -hex 16 prints", name, option)
		}
		if p := b.LBPolicy; p != nil && p.Policy != config.PolicyIPHash && p.Policy != config.PolicyFlowHash {
			c.note("bridge %s: %s and lb_policy %s: the other machine cannot know which segment a connection had, and resets it; with ip_hash or flow_hash it can", name, option, p.Policy)
		}
		if b.Announce != nil {
			c.answersElsewhere(name, b)
		}
	}
	c.movesApart()
	if announced && !slices.ContainsFunc([]string{"bird", "/usr/lib/frr/zebra", "gobgpd"}, installed) {
		c.note("announce: no routing daemon that we know of is installed here, so nobody hears of the route: install one (apt-get install bird2)")
	}
	if elected && !installed("keepalived") {
		c.warn("failover: keepalived is not installed here, so the bridge will never be active: install it (apt-get install keepalived)")
	}
}

// movesApart warns of a segment behind a device whose bridges could be active on two machines at once:
// both would answer there for its aliases.
func (c *checkup) movesApart() {
	for _, name := range config.SortedKeys(c.cfg.Segments) {
		if !c.cfg.Segments[name].Remote() {
			continue
		}
		instances, elected := make(map[string]bool), false
		bridges := c.cfg.BridgesBefore(name)
		for _, bridge := range bridges {
			f, ok := c.cfg.FailoverOf(bridge)
			instances[f.Instance], elected = true, elected || ok
		}
		if elected && len(instances) > 1 {
			c.warn("segment %s: the bridges %s give it flows and do not follow one instance of keepalived, so two machines can have its aliases behind device %s at once: give them the same failover keepalived <instance>", name, strings.Join(bridges, ", "), c.cfg.Segments[name].Device)
		}
	}
}

// answersElsewhere warns of what keeps the answers of a server behind a device from being carried by
// another machine than the one that has carried the request.
func (c *checkup) answersElsewhere(bridge string, b *config.Bridge) {
	for _, name := range config.SortedKeys(c.cfg.Segments) {
		s := c.cfg.Segments[name]
		if !s.Remote() || !slices.Contains(c.cfg.BridgesOf(name), bridge) {
			continue
		}
		if s.Aliases.IsZero() {
			c.warn("bridge %s: announce, and segment %s is behind device %s without aliases: all machines then answer there for the same ones, with one MAC; give each a part of the network, aliases <first>-<last>", bridge, name, s.Device)
		}
		if p := b.LBPolicy; p != nil && slices.Contains(p.Segments, name) && p.Policy != config.PolicyIPHash && p.Policy != config.PolicyFlowHash {
			c.warn("bridge %s: announce, and segment %s is behind device %s and chosen by lb_policy %s: what the server answers by another machine is dropped; take ip_hash or flow_hash", bridge, name, s.Device, p.Policy)
		}
	}
}

// installed tells whether there is a program, also in a directory that only the administrator's
// PATH has.
func installed(program string) bool {
	for _, path := range []string{program, "/usr/sbin/" + program, "/usr/local/sbin/" + program} {
		if _, err := exec.LookPath(path); err == nil {
			return true
		}
	}
	return false
}
