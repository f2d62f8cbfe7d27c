package process

import (
	"fmt"
	"slices"
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// applier is the part of a [vnicbridge.Plane] that puts configurations in force.
type applier interface {
	Apply(cfg *vnicbridge.Config, retained ...*vnicbridge.Config) error
	Close() error
	Leave() error
}

// Generations are the living configurations of one data plane. Caddy starts a
// new configuration before it stops the old one, and may stop the new one again
// when another of its apps fails. The newest living one is in force, so that a
// failed reload brings back the one before it.
type Generations struct {
	plane   applier
	applied func(*vnicbridge.Config) // is told what came into force; an empty one is nothing
	exiting func() bool              // the process ends

	mu     sync.Mutex
	living []*vnicbridge.Config // the oldest first
}

// Push puts a configuration in force. If that fails, the one before it stays.
func (g *Generations) Push(cfg *vnicbridge.Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.plane.Apply(cfg, g.living...); err != nil {
		return err
	}
	g.living = append(g.living, cfg)
	g.applied(cfg)
	return nil
}

// Remove drops a configuration, if it lives. If it was in force, the next newest
// comes back; after the last the plane is closed, or left, if the process ends.
func (g *Generations) Remove(cfg *vnicbridge.Config) error {
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
		g.applied(new(vnicbridge.Config))
		return err
	}
	// Also if it was not in force: what only it had is let go.
	older, newest := g.living[:len(g.living)-1], g.living[len(g.living)-1]
	if err := g.plane.Apply(newest, older...); err != nil {
		return fmt.Errorf("letting go of a configuration: %w", err)
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
