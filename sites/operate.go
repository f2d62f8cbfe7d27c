package sites

import (
	"context"
	"errors"
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// Drain has the kept-alive connections of a segment's HTTP servers end, until
// [Sockets.Start]: idle ones are closed, and the others after their next response, for
// the servers that call [Sockets.ConnState] and [Sockets.ConnContext]. Requests that are
// being answered are finished. The listeners stay open.
func (s *Sockets) Drain(segment string) {
	s.operating.Lock()
	defer s.operating.Unlock()
	s.idle.leave(segment)
}

// Stop closes the sockets of a segment while its servers go on: their Accept and
// ReadFrom wait for [Sockets.Start]. Connections that wait in an accept queue are
// handed out first, and those of HTTP servers end as by [Sockets.Drain]. It
// holds for listeners that are opened later, too. The bridge should have stopped
// giving new flows to the segment before.
func (s *Sockets) Stop(segment string) {
	s.operating.Lock()
	defer s.operating.Unlock()
	s.stop(segment)
}

func (s *Sockets) stop(segment string) {
	s.mu.Lock()
	s.stopped[segment] = true
	streams, packets := s.of(segment)
	for _, t := range streams {
		for _, l := range t.listeners {
			l.port()
		}
	}
	s.mu.Unlock()

	s.idle.leave(segment)
	var closing sync.WaitGroup
	for _, t := range streams {
		closing.Go(func() { _ = t.close(linger) }) // it is gone, whatever close says
	}
	for _, c := range packets {
		c.stop()
	}
	closing.Wait()
}

// Start ends a drain, and opens the sockets of a stopped segment again. If one cannot
// be, the segment stays stopped.
func (s *Sockets) Start(ctx context.Context, segment string) error {
	s.operating.Lock()
	defer s.operating.Unlock()
	err := s.start(ctx, segment)
	if err != nil {
		s.stop(segment)
	}
	return err
}

func (s *Sockets) start(ctx context.Context, segment string) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle.stay(segment)
	if !s.stopped[segment] {
		return nil
	}
	delete(s.stopped, segment)
	streams, packets := s.of(segment)
	for _, t := range streams {
		err = errors.Join(err, t.open(ctx, s.plane, segment))
		for _, l := range t.listeners {
			l.port = s.openPort(vnicbridge.TCP, l.at)
		}
	}
	for _, c := range packets {
		err = errors.Join(err, c.start(ctx))
	}
	return err
}

// of are the sockets of a segment. A stream's is that of its newest listener.
func (s *Sockets) of(segment string) (streams []*stream, packets []*packetConn) {
	for _, t := range s.streams {
		if t.listeners[0].at.Segment == segment {
			streams = append(streams, t)
		}
	}
	for c := range s.packets {
		if c.at.Segment == segment {
			packets = append(packets, c)
		}
	}
	return streams, packets
}
