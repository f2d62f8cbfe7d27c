package main

import (
	"context"
	"encoding/binary"
	"net"
	"time"
)

// reloadPause is the time between reloads.
const reloadPause = 200 * time.Millisecond

// measureReloads sends numbered datagrams of one UDP flow at a steady rate, has
// the data plane reload meanwhile, and counts those that never arrive.
func (s *site) measureReloads(ctx context.Context, reloads int) (Loss, error) {
	conn, err := s.client.DialContext(ctx, "udp4", s.publicPort(discardPort).String())
	if err != nil {
		return Loss{}, err
	}
	defer conn.Close()
	s.sink.expect(reloadRate * int(limit/time.Second))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := make(chan int)
	go func() { sent <- sendNumbered(ctx, conn) }()
	for range reloads {
		time.Sleep(reloadPause)
		if err = s.reload(ctx); err != nil {
			break
		}
	}
	time.Sleep(reloadPause)
	cancel()
	n := <-sent
	time.Sleep(reloadPause) // the last ones arrive
	return Loss{Reloads: reloads, Sent: n, Lost: s.sink.missing(n)}, err
}

// sendNumbered sends until the context ends and returns how many it sent.
func sendNumbered(ctx context.Context, conn net.Conn) (n int) {
	datagram := make([]byte, messageLen)
	began := time.Now()
	for ctx.Err() == nil {
		for due := int(time.Since(began) * reloadRate / time.Second); n < due; n++ {
			binary.BigEndian.PutUint64(datagram, uint64(n))
			_, _ = conn.Write(datagram) // what cannot be sent is lost, and counted so
		}
		time.Sleep(time.Millisecond)
	}
	return n
}
