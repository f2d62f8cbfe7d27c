package process

import (
	"fmt"
	"slices"
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// applier puts configurations in force; *[vnicbridge.Plane] does.
type applier interface {
	Apply(cfg *config.Config, retained ...*config.Config) error
	Close() error
	Leave() error
}

// Generations are the living configurations of one data plane. Caddy starts a new
// configuration before it stops the old one. If another app of the new configuration
// fails, Caddy stops the new one again. The newest living configuration is in force, so a
// failed reload brings back the previous one.
type Generations struct {
	plane   applier
	applied func(*config.Config) // is called with the configuration that came into force; an empty one means none
	exiting func() bool          // tells whether the process ends

	mu     sync.Mutex
	living []*config.Config // the oldest first
}

// Push puts a configuration in force. If that fails, the previous one stays in force.
func (g *Generations) Push(cfg *config.Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.plane.Apply(cfg, g.living...); err != nil {
		return err
	}
	g.living = append(g.living, cfg)
	g.applied(cfg)
	return nil
}

// Remove drops a configuration, if it lives. If the configuration was in force, the next
// newest comes back. After the last one the plane closes; if the process ends, Remove
// calls the plane's Leave instead.
func (g *Generations) Remove(cfg *config.Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.living, cfg)
	if i < 0 {
		return nil
	}
	g.living = slices.Delete(g.living, i, i+1)
	if len(g.living) == 0 {
		end := g.plane.Close
		if g.exiting() {
			end = g.plane.Leave
		}
		err := end()
		g.applied(new(config.Config))
		return err
	}
	// Even if cfg was not in force, the plane must release what only cfg had.
	older, newest := g.living[:len(g.living)-1], g.living[len(g.living)-1]
	if err := g.plane.Apply(newest, older...); err != nil {
		return fmt.Errorf("releasing a configuration: %w", err)
	}
	g.applied(newest)
	return nil
}

// Any tells whether a configuration lives.
func (g *Generations) Any() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.living) > 0
}
