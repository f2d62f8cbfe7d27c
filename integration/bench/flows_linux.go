package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// flowWorkers is how many flows are being opened at once.
const flowWorkers = 8

// newFlows opens UDP flows as fast as they are answered: from an address and
// port not used before, a message goes to the server and back.
func newFlows(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	var opened atomic.Int64
	began := time.Now()
	workers, ctx := errgroup.WithContext(ctx)
	for range flowWorkers {
		workers.Go(func() error {
			// The worker stays on the host, to open its sockets there.
			return s.client.Do(func() error {
				for ctx.Err() == nil && time.Since(began) < d {
					if err := s.openFlow(s.bench.sources.next()); err != nil {
						return err
					}
					opened.Add(1)
				}
				return ctx.Err()
			})
		})
	}
	err := workers.Wait()
	return Figures{"flows": float64(opened.Load()) / time.Since(began).Seconds()}, err
}

// openFlow opens a flow on the client, which the caller has entered.
func (s *site) openFlow(from netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sockaddr(from)); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	if err := connect(fd, s.publicPort(flowsPort)); err != nil {
		return err
	}
	if err := exchange(fd, make([]byte, messageLen)); err != nil {
		return fmt.Errorf("from %s: %w", from, err)
	}
	return nil
}

// sources gives out addresses and ports of clients, each once until all have
// been given.
type sources struct {
	mu   sync.Mutex
	last int
}

const (
	firstPort = 2000
	portsEach = 60000
)

func (s *sources) next() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	return source(s.last)
}

// source is the n-th of them.
func source(n int) netip.AddrPort {
	return netip.AddrPortFrom(moreClient(n/portsEach%clientAddrs), uint16(firstPort+n%portsEach))
}
