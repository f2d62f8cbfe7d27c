package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
)

// measureLoads fills the bridge's flow table step by step and measures, at each,
// how many datagrams per second cross when they are spread over all flows.
func (s *site) measureLoads(ctx context.Context, p pace) (loads []Load, err error) {
	sender, err := newSpoofer(s)
	if err != nil {
		return nil, err
	}
	defer sender.close()
	before, err := memory(s.pid)
	if err != nil {
		return nil, err
	}
	for _, flows := range p.loads {
		if err := s.fill(ctx, sender, flows); err != nil {
			return nil, err
		}
		rate, err := s.flood(ctx, sender, flows, p.flood)
		if err != nil {
			return nil, err
		}
		now, err := memory(s.pid)
		if err != nil {
			return nil, err
		}
		loads = append(loads, Load{Flows: flows, PacketRate: rate, RSS: now, RSSBefore: before, Stated: vnicbridge.FlowBytes})
	}
	return loads, nil
}

// fill opens the first n flows, in bursts that the bridge can follow, and again
// until none is lost.
func (s *site) fill(ctx context.Context, sender *spoofer, n int) error {
	const burst, passes = 256, 10
	open := 0
	for range passes {
		for i := range n {
			if i%burst == 0 {
				time.Sleep(time.Millisecond)
			}
			if err := sender.send(source(i)); err != nil {
				return err
			}
		}
		time.Sleep(settle)
		status, err := s.status(ctx)
		if err != nil {
			return err
		}
		if open = status.Flows; open >= n {
			return nil
		}
	}
	return fmt.Errorf("only %d of %d flows could be opened", open, n)
}

// settle is how long packets may be on their way.
const settle = 100 * time.Millisecond

// flood sends over the first n flows as fast as it can and returns how many
// datagrams per second arrive.
func (s *site) flood(ctx context.Context, sender *spoofer, n int, d time.Duration) (float64, error) {
	before, began := s.sink.received.Load(), time.Now()
	for i := 0; time.Since(began) < d && ctx.Err() == nil; {
		for range 64 {
			if err := sender.send(source(i % n)); err != nil {
				return 0, err
			}
			i += 7919 // a prime: the flows are not visited in the order of their making
		}
	}
	took, arrived := time.Since(began), s.sink.received.Load()-before
	time.Sleep(settle) // what is still queued was carried too late, but costs the next one nothing
	return float64(arrived) / took.Seconds(), ctx.Err()
}

// spoofer sends datagrams from any address and port to the discard service,
// without a socket for each.
type spoofer struct {
	fd     int
	to     *unix.SockaddrInet4
	packet []byte
}

// ipHeaderLen and udpHeaderLen have no options; the payload is a sequence
// number that nobody asks for.
const ipHeaderLen, udpHeaderLen, payloadLen = 20, 8, 16

func newSpoofer(s *site) (*spoofer, error) {
	fd, err := openSocket(s.client, unix.SOCK_RAW, unix.IPPROTO_RAW, netip.AddrPort{})
	if err != nil {
		return nil, err
	}
	p := make([]byte, ipHeaderLen+udpHeaderLen+payloadLen)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP // the kernel fills in length, id and checksum
	to := s.publicPort(discardPort)
	copy(p[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(p[ipHeaderLen+2:], to.Port())
	binary.BigEndian.PutUint16(p[ipHeaderLen+4:], udpHeaderLen+payloadLen) // the checksum stays 0: none
	for i := range payloadLen {
		p[ipHeaderLen+udpHeaderLen+i] = 0xff
	}
	return &spoofer{fd: fd, to: sockaddr(netip.AddrPortFrom(to.Addr(), 0)), packet: p}, nil
}

func (s *spoofer) send(from netip.AddrPort) error {
	copy(s.packet[12:], from.Addr().AsSlice())
	binary.BigEndian.PutUint16(s.packet[ipHeaderLen:], from.Port())
	err := again(func() error { return unix.Sendto(s.fd, s.packet, 0, s.to) })
	if err == unix.ENOBUFS { // the link is full: lost, as on a wire
		return nil
	}
	return err
}

func (s *spoofer) close() { _ = unix.Close(s.fd) }
