package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/caddy-vnic/caddy-vnic/integration/gauge"
)

// tableVariants returns our data paths, once for each number of flows in the table, and the
// baseline. The baseline has no table and shows the cost of many clients alone.
func tableVariants(levels []int) (all []variant) {
	for _, v := range bridgeVariants {
		if v.Name != baseline && !v.Ours || v.aside {
			continue
		}
		for _, n := range levels {
			v.level = n
			all = append(all, v)
		}
	}
	return all
}

// serveTable starts the discard service and opens the flows.
func serveTable(ctx context.Context, s *site) (err error) {
	if err := s.startSink(); err != nil || s.caddy == nil {
		return err
	}
	if s.emptyMemory, err = gauge.ProcessMemory(s.pid); err != nil {
		return err
	}
	return s.fill(ctx, s.level)
}

// crowd is a probe that sends datagrams over all flows of the table in turn.
func crowd(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	sent, err := s.datagramsOver(ctx, s.level, d)
	if err != nil {
		return nil, err
	}
	figures := Figures{
		packetsMetric(s.level): sent.rate(),
		costMetric(s.level):    float64(sent.cpu.Nanoseconds()) / float64(sent.arrived),
	}
	if s.caddy != nil {
		now, err := gauge.ProcessMemory(s.pid)
		if err != nil {
			return nil, err
		}
		figures[memoryMetric(s.level)] = float64(now.Maps+now.Resident-s.emptyMemory.Resident) / float64(s.level)
	}
	return figures, nil
}

// busyFew is a probe that sends datagrams over busyFlows of the table's flows. The others are
// idle.
func busyFew(ctx context.Context, s *site, d time.Duration) (Figures, error) {
	sent, err := s.datagramsOver(ctx, busyFlows, d)
	if err != nil {
		return nil, err
	}
	return Figures{busyMetric(s.level): sent.rate()}, nil
}

func hasIdleFlows(s *site) bool { return s.level > busyFlows }

// datagramsOver sends datagrams over n of the table's flows in turn.
func (s *site) datagramsOver(ctx context.Context, n int, d time.Duration) (blasted, error) {
	sender, err := newSpoofer(s)
	if err != nil {
		return blasted{}, err
	}
	defer sender.close()
	apart := s.level/n | 1 // takes flows from the whole table; odd, so that their records fall into all sets of the caches
	next := func() netip.AddrPort {
		s.sources += 7919 // a prime, so that the order differs from that in which the flows were opened
		return s.source(s.sources % n * apart % s.level)
	}
	const most = 1 << 30 // more than d allows
	return s.blast(ctx, sender, d, most, next)
}

// fill opens the first n flows, in bursts that the bridge can handle. It repeats the lost
// ones until all are open.
func (s *site) fill(ctx context.Context, n int) error {
	sender, err := newSpoofer(s)
	if err != nil {
		return err
	}
	defer sender.close()
	const burst, passes = 256, 10
	open := 0
	for range passes {
		for i := range n {
			if i%burst == 0 {
				time.Sleep(time.Millisecond)
			}
			if err := sender.send(s.source(i)); err != nil {
				return err
			}
		}
		s.sink.quiet()
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
