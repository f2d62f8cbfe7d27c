package sites

import (
	"context"
	"errors"
	"sync"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Drain ends the kept-alive connections of a segment's HTTP servers, until [Sockets.Start].
// It closes idle connections now, and the others after their next response. Requests that
// are being answered are finished. The listeners stay open. Drain works for servers that
// call [Sockets.ConnState] and [Sockets.ConnContext].
func (s *Sockets) Drain(segment string) {
	s.operating.Lock()
	defer s.operating.Unlock()
	s.idle.leave(segment)
}

// Stop closes the sockets of a segment while the segment's servers go on: their Accept and
// ReadFrom wait for [Sockets.Start]. Stop first hands out the connections that wait in an
// accept queue. Connections of HTTP servers end as in [Sockets.Drain]. Stop also applies to
// listeners that are opened later. Before Stop, the bridge should give no more new flows to
// the segment.
func (s *Sockets) Stop(segment string) {
	s.operating.Lock()
	defer s.operating.Unlock()
	s.stop(segment)
}

func (s *Sockets) stop(segment string) {
	s.mu.Lock()
	s.stopped[segment] = true
	s.rearranged()
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
		closing.Go(func() { _ = t.close(linger) }) // the socket is gone, whatever close returns
	}
	for _, c := range packets {
		c.stop()
	}
	closing.Wait()
}

// Start ends a drain, and opens the sockets of a stopped segment again. If a socket cannot be
// opened, the segment stays stopped.
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
	s.rearranged()
	streams, packets := s.of(segment)
	for _, t := range streams {
		err = errors.Join(err, t.open(ctx, s.plane, segment))
		for _, l := range t.listeners {
			before := l.port // still open if the listener is on two streams, and this is the second
			l.port = s.openPort(config.TCP, l.at)
			before()
		}
	}
	for _, c := range packets {
		err = errors.Join(err, c.start(ctx))
	}
	return err
}

// of returns the sockets of a segment. A stream belongs to the segment of its newest
// listener.
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
