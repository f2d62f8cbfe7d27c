package vnicbridge

import (
	"crypto/sha256"
	"os"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// keyOf returns the key of the hashes that decide under a configuration. The link-local
// address (A8) follows from this machine's own secret whatever the configuration says,
// because each machine has an address of its own.
func (p *Plane) keyOf(cfg *config.Config) rules.Key {
	if !cfg.Key.IsZero() {
		return rules.NewKey(cfg.Key[:])
	}
	return p.key
}

// takeKey sets the machine's own key when the plane starts.
func (p *Plane) takeKey() {
	secret, err := p.secret()
	if err != nil {
		p.log.Warn("the secret that spreads clients over aliases and segments is not kept: it is derived from the machine's id, which every user of this machine can read", "error", err)
		secret = machineSecret()
	}
	p.key = rules.NewKey(secret[:])
}

// machineSecret is the secret if none is stored. It is the same at every start. If there is
// no machine id, as in a bare container, it is derived from the host's name.
func machineSecret() (secret [16]byte) {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		name, _ := os.Hostname()
		id = []byte(name)
	}
	sum := sha256.Sum256(append([]byte("caddy-vnic "), id...))
	copy(secret[:], sum[:])
	return secret
}
