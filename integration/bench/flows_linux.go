package main

import (
	"context"
	"net/netip"
	"time"
)

// newFlowsMost bounds how many flows a probe opens. The bridge keeps them for
// minutes, and is to have room for those of all rounds.
const newFlowsMost = 150_000

// newFlows opens UDP flows as fast as they can be: each datagram comes from an
// address and port not used before. What arrives has been admitted.
func newFlows(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	sender, err := newSpoofer(s)
	if err != nil {
		return nil, err
	}
	defer sender.close()
	sent, err := s.blast(ctx, sender, d, newFlowsMost, s.newSource)
	return Figures{"flows": sent.rate()}, err
}

// blasted is what became of datagrams sent as fast as possible.
type blasted struct {
	arrived int64
	took    time.Duration // from the first that was sent to the last that arrived
	cpu     time.Duration // of the whole machine
}

func (b blasted) rate() float64 { return float64(b.arrived) / b.took.Seconds() }

// blast sends datagrams to the server's discard service as fast as one core can,
// for a time and up to a number, each from the next source.
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

// Sources are addresses and ports of the client.
const (
	firstPort = 2000
	portsEach = 60000
)

// source is the n-th of them. They repeat after 1.2 million.
func source(n int) netip.AddrPort {
	return netip.AddrPortFrom(moreClient(n/portsEach%clientAddrs), uint16(firstPort+n%portsEach))
}

// newSource is a source that this site has not seen, until all have been given.
func (s *site) newSource() netip.AddrPort {
	s.sources++
	return source(s.sources)
}
