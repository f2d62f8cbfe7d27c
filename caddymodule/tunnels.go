package caddymodule

import (
	"math"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// A tunnel is a connection that a vnic_proxy has upgraded, as for a WebSocket. Where a
// block has no stream_close_delay, a reload leaves its tunnels alone, as it leaves all
// flows: they are closed when no vnic_proxy leads where they go any more.

// unlimited keeps reverse_proxy from closing tunnels by itself.
const unlimited = caddy.Duration(math.MaxInt64)

// way is where a vnic_proxy leads: from a segment to the server of another one.
type way struct{ from, to string }

// proxySet are the vnic_proxy handlers of the living configurations, and those of
// earlier ones whose tunnels are kept.
type proxySet struct {
	mu           sync.Mutex
	living, kept map[*Proxy]struct{}
	closing      map[string]bool // segments to which no idle connection is kept
}

// enter is called for a handler before it serves.
func (s *proxySet) enter(p *Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.living[p] = struct{}{}
}

// leave is called for a handler whose configuration has ended.
func (s *proxySet) leave(p *Proxy) {
	p.left.Store(true)
	for _, lost := range s.without(p) {
		if err := lost.CloseTunnels(); err != nil {
			caddy.Log().Named("vnic").Debug("closing tunnels", zap.Error(err))
		}
	}
}

// without takes a living handler away, and returns those whose tunnels are to be closed.
func (s *proxySet) without(p *Proxy) (lost []*Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.living, p)
	if p.StreamCloseDelay == unlimited && p.open.Load() > 0 {
		s.kept[p] = struct{}{}
	}
	for kept := range s.kept {
		if !s.leads(kept.ways) {
			delete(s.kept, kept)
			lost = append(lost, kept)
		}
	}
	return lost
}

// leads tells whether a living handler leads by one of these ways.
func (s *proxySet) leads(ways []way) bool {
	for p := range s.living {
		if slices.ContainsFunc(ways, func(w way) bool { return slices.Contains(p.ways, w) }) {
			return true
		}
	}
	return false
}

// forget is called when the last request of a handler that has left is over.
func (s *proxySet) forget(p *Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, p)
}
