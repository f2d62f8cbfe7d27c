package main

import (
	"context"
	"net/netip"
	"time"
)

// newFlowsMost bounds how many flows a probe opens. The bridge keeps them for minutes, and
// its table must have room for those of all rounds.
const newFlowsMost = 150_000

// newFlows opens UDP flows as fast as possible: each datagram has a new source address and
// port. A datagram that arrives shows that its flow was admitted.
func newFlows(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	sender, err := newSpoofer(s)
	if err != nil {
		return nil, err
	}
	defer sender.close()
	sent, err := s.blast(ctx, sender, d, newFlowsMost, s.newSource)
	return Figures{"flows": sent.rate()}, err
}

// blasted is the result of sending datagrams as fast as possible.
type blasted struct {
	arrived int64
	took    time.Duration // from the first datagram sent to the last one that arrived
	cpu     time.Duration // CPU time of the whole machine
}

func (b blasted) rate() float64 { return float64(b.arrived) / b.took.Seconds() }

// blast sends datagrams to the server's discard service as fast as one core can, for d and
// at most a number of them. Each has the next source.
func (s *site) blast(ctx context.Context, sender *spoofer, d time.Duration, most int, next func() netip.AddrPort) (b blasted, err error) {
	before, err := s.cpuTimes()
	if err != nil {
		return b, err
	}
	const burst = 64 // between looks at the clock
	received, began := s.sink.received.Load(), time.Now()
	for sent := 0; sent < most && time.Since(began) < d && ctx.Err() == nil; sent += burst {
		for range burst {
			if err := sender.send(next()); err != nil {
				return b, err
			}
		}
	}
	now, last := s.sink.quiet()
	after, err := s.cpuTimes()
	if err != nil {
		return b, err
	}
	return blasted{arrived: now - received, took: last.Sub(began), cpu: after.machine - before.machine}, ctx.Err()
}

// The source ports of each address of the client.
const (
	firstPort = 2000
	portsEach = 60000
)

// source returns the n-th source. They repeat after 1.2 million.
func (s *site) source(n int) netip.AddrPort {
	return netip.AddrPortFrom(s.clients[n/portsEach%clientAddrs], uint16(firstPort+n%portsEach))
}

// newSource returns a source that this site has not used yet, until all are used.
func (s *site) newSource() netip.AddrPort {
	s.sources++
	return s.source(s.sources)
}
