package process

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// Proxy is a vnic_proxy handler of one configuration, as the process knows it.
type Proxy struct {
	Connections
	Ways     []Way
	Segments map[string]string // the segments' names, by the addresses that are dialed

	// KeepTunnels keeps tunnels open when the configuration ends. A tunnel is a connection
	// that the handler has upgraded, as for a WebSocket. Tunnels that are kept close when
	// no handler leads where they go any more.
	KeepTunnels bool

	set  *ProxySet
	open atomic.Int64 // requests that have not ended, tunnels among them
	left atomic.Bool  // the configuration has ended
}

// Connections are a handler's connections to its upstreams.
type Connections interface {
	// CloseIdle closes the idle connections to an address.
	CloseIdle(address string)
	// CloseTunnels closes what was upgraded.
	CloseTunnels() error
}

// Way is where a handler leads: from a segment to the address of another segment's server.
type Way struct{ From, To string }

// Begin is called when a request begins.
func (p *Proxy) Begin() { p.open.Add(1) }

// End is called when a request, or the tunnel that it has become, has ended.
func (p *Proxy) End() {
	if p.open.Add(-1) == 0 && p.left.Load() {
		p.set.forget(p)
	}
}

// ProxySet holds the handlers of the living configurations, and the handlers of earlier
// configurations whose tunnels are kept.
type ProxySet struct {
	mu           sync.Mutex
	living, kept map[*Proxy]struct{}
	closing      map[string]bool // segments to which no idle connection is kept
}

// Enter is called for a handler before it serves.
func (s *ProxySet) Enter(p *Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.set = s
	s.living[p] = struct{}{}
}

// Leave is called for a handler whose configuration has ended.
func (s *ProxySet) Leave(p *Proxy) {
	p.left.Store(true)
	for _, lost := range s.without(p) {
		if err := lost.CloseTunnels(); err != nil {
			caddy.Log().Named("vnic").Debug("closing tunnels", zap.Error(err))
		}
	}
}

// without takes a living handler away, and returns those whose tunnels must close.
func (s *ProxySet) without(p *Proxy) (lost []*Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.living, p)
	if p.KeepTunnels && p.open.Load() > 0 {
		s.kept[p] = struct{}{}
	}
	for kept := range s.kept {
		if !s.leads(kept.Ways) {
			delete(s.kept, kept)
			lost = append(lost, kept)
		}
	}
	return lost
}

// leads tells whether a living handler leads by one of these ways.
func (s *ProxySet) leads(ways []Way) bool {
	for p := range s.living {
		if slices.ContainsFunc(ways, func(w Way) bool { return slices.Contains(p.Ways, w) }) {
			return true
		}
	}
	return false
}

// forget is called when the last request of a handler that has left is over.
func (s *ProxySet) forget(p *Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, p)
}

// closeInterval is the time between two rounds of closing idle connections to the servers
// of a segment that is drained or stopped. Requests that have yet to end leave idle
// connections for a later round.
const closeInterval = time.Second

// CloseIdle closes the idle connections to the servers of a segment, until the segment is
// active.
func (s *ProxySet) CloseIdle(segment string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing[segment] {
		s.closing[segment] = true
		s.closeIdleLocked(segment)
	}
}

func (s *ProxySet) closeIdleLocked(segment string) {
	if !Sockets.IsLeaving(segment) {
		delete(s.closing, segment)
		return
	}
	time.AfterFunc(closeInterval, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closeIdleLocked(segment)
	})
	for p := range s.living {
		for address, name := range p.Segments {
			if name == segment {
				p.CloseIdle(address)
			}
		}
	}
}
