package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// messageLen is how much a round trip carries.
const messageLen = 64

func tcpRoundTrip(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	times, err := s.roundTrips(ctx, unix.SOCK_STREAM, d)
	if err != nil {
		return nil, err
	}
	return Figures{"tcp_p50": microseconds(times, 50), "tcp_p99": microseconds(times, 99)}, nil
}

func udpRoundTrip(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	times, err := s.roundTrips(ctx, unix.SOCK_DGRAM, d)
	if err != nil {
		return nil, err
	}
	return Figures{"udp_p50": microseconds(times, 50), "udp_p99": microseconds(times, 99)}, nil
}

func microseconds(times []time.Duration, p int) float64 {
	return float64(percentile(times, p)) / float64(time.Microsecond)
}

// roundTrips sends messages one after the other, each when the echo of the last
// has come, and returns the time that each took.
func (s *site) roundTrips(ctx context.Context, kind int, d time.Duration) (times []time.Duration, err error) {
	fd, err := openSocket(s.client, kind, 0, netip.AddrPort{})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := connect(fd, s.publicPort(echoPort)); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	message := make([]byte, messageLen)
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
