package checkup

import (
	"os/exec"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// failover warns of what keeps another machine from going on as this one would.
func (c *checkup) failover() {
	found := false
	for _, name := range config.SortedKeys(c.cfg.Bridges) {
		if _, ok := c.cfg.FailoverOf(name); !ok {
			continue
		}
		found = true
		if c.cfg.Key.IsZero() {
			c.warn("bridge %s: failover without a key: the other machine gives clients other aliases and segments; give both the same one, key with what openssl rand -hex 16 prints", name)
		}
		if p := c.cfg.Bridges[name].LBPolicy; p != nil && p.Policy != config.PolicyIPHash && p.Policy != config.PolicyFlowHash {
			c.note("bridge %s: failover and lb_policy %s: the other machine cannot know which segment a connection had, and resets it; with ip_hash or flow_hash it can", name, p.Policy)
		}
	}
	if found && !installed("keepalived") {
		c.warn("failover: keepalived is not installed here, so the bridge will never be active: install it (apt-get install keepalived)")
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
