package caddymodule

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// plane is what this package needs of a [vnicbridge.Plane]. It is an interface
// so that the order of the generations can be tested without devices.
type plane interface {
	Apply(*vnicbridge.Config) error
	Close() error
	Status() vnicbridge.Status
	OpenPort(segment string, port vnicbridge.PortRange) (release func())
	Client(proto vnicbridge.Protocol, local, remote netip.AddrPort) (netip.AddrPort, bool)
	Alias(proto vnicbridge.Protocol, local, client netip.AddrPort) (netip.AddrPort, bool)
}

// generations is the data plane of the process, with the configurations that
// want something of it. Caddy starts a new configuration before it stops the old
// one, and may stop the new one again when another of its apps fails. The newest
// living one is in force, so that a failed reload brings back the one before it.
type generations struct {
	open    func() plane             // makes an empty plane
	applied func(*vnicbridge.Config) // is told what came into force

	mu     sync.Mutex
	living []*vnicbridge.Config // the oldest first

	// current is nil while none lives. It is read by every connection, which
	// must not wait for mu while a configuration is applied.
	current atomic.Pointer[plane]
}

// push puts a configuration in force. If that fails, the one before it stays.
func (g *generations) push(cfg *vnicbridge.Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.current.Load()
	if p == nil {
		fresh := g.open()
		p = &fresh
	}
	if err := (*p).Apply(cfg); err != nil {
		if g.current.Load() == nil {
			return errors.Join(err, (*p).Close())
		}
		return err
	}
	g.current.Store(p)
	g.living = append(g.living, cfg)
	g.applied(cfg)
	return nil
}

// remove drops a configuration, if it lives. If it was in force, the next newest
// comes back; after the last the plane is closed.
func (g *generations) remove(cfg *vnicbridge.Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.living, cfg)
	if i < 0 {
		return nil
	}
	wasNewest := i == len(g.living)-1
	g.living = slices.Delete(g.living, i, i+1)
	if len(g.living) == 0 {
		p := g.current.Swap(nil)
		return (*p).Close()
	}
	if !wasNewest {
		return nil
	}
	newest := g.living[len(g.living)-1]
	if err := (*g.current.Load()).Apply(newest); err != nil {
		return fmt.Errorf("bringing back the configuration before: %w", err)
	}
	g.applied(newest)
	return nil
}

// inForce is the plane, if any configuration lives.
func (g *generations) inForce() (plane, bool) {
	p := g.current.Load()
	if p == nil {
		return nil, false
	}
	return *p, true
}
