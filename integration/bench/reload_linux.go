package main

import (
	"context"
	"encoding/binary"
	"net"
	"time"
)

// reloadPause is the time between reloads.
const reloadPause = 200 * time.Millisecond

// reloads sends numbered datagrams of one UDP flow at a steady rate while the data plane
// reloads, and counts those that never arrive.
func reloads(ctx context.Context, s *site, _ time.Duration) (Figures, error) {
	conn, err := s.client.DialContext(ctx, "udp", s.publicPort(discardPort).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	s.sink.expect(reloadRate * int(limit/time.Second))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := make(chan int)
	go func() { sent <- sendNumbered(ctx, conn) }()
	for range s.bench.pace.reloads {
		time.Sleep(reloadPause)
		if err = s.reload(ctx); err != nil {
			break
		}
	}
	time.Sleep(reloadPause)
	cancel()
	n := <-sent
	s.sink.quiet()
	return Figures{
		reloadsDone: float64(s.bench.pace.reloads),
		reloadSent:  float64(n), reloadMissing: float64(s.sink.missing(n)),
	}, err
}

// sendNumbered sends numbered datagrams until the context ends, and returns how many.
func sendNumbered(ctx context.Context, conn net.Conn) (n int) {
	datagram := make([]byte, messageLen)
	began := time.Now()
	for ctx.Err() == nil {
		for due := int(time.Since(began) * reloadRate / time.Second); n < due; n++ {
			binary.BigEndian.PutUint64(datagram, uint64(n))
			_, _ = conn.Write(datagram) // a datagram that cannot be sent counts as lost
		}
		time.Sleep(time.Millisecond)
	}
	return n
}
