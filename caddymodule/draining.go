package caddymodule

import "time"

// betweenCloses is how often idle connections to servers of a segment that is drained or
// stopped are closed: those whose requests have yet to end become idle later.
const betweenCloses = time.Second

// closeIdle closes the idle connections to servers of a segment, until it is active.
func (s *proxySet) closeIdle(segment string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing[segment] {
		s.closing[segment] = true
		s.closeIdleLocked(segment)
	}
}

func (s *proxySet) closeIdleLocked(segment string) {
	if !sockets.IsLeaving(segment) {
		delete(s.closing, segment)
		return
	}
	time.AfterFunc(betweenCloses, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closeIdleLocked(segment)
	})
	for p := range s.living {
		for address, name := range p.segments {
			if name == segment {
				p.CloseIdle(address)
			}
		}
	}
}
