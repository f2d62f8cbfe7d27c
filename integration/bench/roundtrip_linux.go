package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// messageLen is the size in bytes of a round trip's message.
const messageLen = 64

// roundTrip makes a probe of round trips. The names of its metrics begin with the prefix.
func roundTrip(prefix string, kind int, at placement) func(context.Context, *site, time.Duration) (Figures, error) {
	return func(ctx context.Context, s *site, d time.Duration) (Figures, error) {
		times, err := s.roundTrips(ctx, kind, at, d)
		if err != nil {
			return nil, err
		}
		return Figures{prefix + "_p50": microseconds(times, 50), prefix + "_p99": microseconds(times, 99)}, nil
	}
}

// busy makes a probe that runs another one while HTTP requests keep both ends busy.
func busy(probe func(context.Context, *site, time.Duration) (Figures, error)) func(context.Context, *site, time.Duration) (Figures, error) {
	return func(ctx context.Context, s *site, d time.Duration) (figures Figures, err error) {
		const margin = 100 * time.Millisecond // of load before and after the probe
		both, ctx := errgroup.WithContext(ctx)
		var totals wrkTotals
		both.Go(func() (err error) {
			totals, err = s.wrk(ctx, d, s.url("http", "1k"), 8)
			return err
		})
		both.Go(func() (err error) {
			time.Sleep(margin)
			figures, err = probe(ctx, s, d-2*margin)
			return err
		})
		if err := both.Wait(); err != nil {
			return nil, err
		}
		figures[brokenRequests] = float64(totals.broken())
		return figures, nil
	}
}

func microseconds(times []time.Duration, p int) float64 {
	return float64(gauge.Percentile(times, p)) / float64(time.Microsecond)
}

// roundTrips sends one message after the other, each after the echo of the last, and returns
// the time of each round trip.
func (s *site) roundTrips(ctx context.Context, kind int, at placement, d time.Duration) (times []time.Duration, err error) {
	fd, err := openSocket(s.client, s.public.Addr(), kind, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := connect(fd, s.publicPort(echoPort)); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	runtime.LockOSThread()
	if err := moveTo(at.client); err != nil {
		return nil, err
	}
	defer func() {
		// If the thread cannot go back, it stays locked and ends with its goroutine.
		if back := moveTo(anywhere.client); back != nil {
			err = errors.Join(err, back)
			return
		}
		runtime.UnlockOSThread()
	}()
	message := make([]byte, messageLen)
	message[0] = byte(at.server)
	if err := exchange(fd, message); err != nil { // the server moves to its core
		return nil, err
	}
	for began := time.Now(); len(times) == 0 || time.Since(began) < d; {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		sent := time.Now()
		if err := exchange(fd, message); err != nil {
			return nil, err
		}
		times = append(times, time.Since(sent))
	}
	return times, nil
}

// exchange sends a message and waits for its echo.
func exchange(fd int, message []byte) error {
	if err := writeSocket(fd, message); err != nil {
		return err
	}
	for got := 0; got < len(message); {
		n, err := readSocket(fd, message[got:])
		switch {
		case err == unix.EAGAIN:
			return fmt.Errorf("no echo within %v", patience)
		case err != nil:
			return err
		case n == 0:
			return errors.New("the server closed the connection")
		}
		got += n
	}
	return nil
}
