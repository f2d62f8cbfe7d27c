package netlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Ping sends echo requests from the host. A lost request is no error. A reply whose
// payload is not its request's is one. Ping needs CAP_NET_RAW.
func (h *Host) Ping(ctx context.Context, to netip.Addr, opts PingOptions) (*PingResult, error) {
	p, err := h.newPinger(to, opts)
	if err != nil {
		return nil, fmt.Errorf("lab: ping %s from %s: %w", to, h.name, err)
	}
	defer p.conn.Close()
	if err := p.run(ctx); err != nil {
		return p.result, fmt.Errorf("lab: ping %s from %s: %w", to, h.name, err)
	}
	return p.result, nil
}

// echoes is what differs between the echoes of the two families.
type echoes struct {
	network        string // of the raw socket
	any            netip.Addr
	request, reply icmp.Type
}

var (
	echoesIPv4 = echoes{"ip4:icmp", netip.IPv4Unspecified(), ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	echoesIPv6 = echoes{"ip6:ipv6-icmp", netip.IPv6Unspecified(), ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

type pinger struct {
	echoes
	conn   *icmp.PacketConn
	to     netip.Addr
	opts   PingOptions
	result *PingResult
	sent   map[int]time.Time // by sequence number
	data   map[int][]byte
}

func (h *Host) newPinger(to netip.Addr, opts PingOptions) (*pinger, error) {
	family := echoesIPv4
	if to.Is6() {
		family = echoesIPv6
	}
	if !opts.Source.IsValid() {
		opts.Source = family.any
	}
	opts.Count = max(opts.Count, 1)
	if opts.Interval == 0 {
		opts.Interval = 100 * time.Millisecond
	}
	if opts.Timeout == 0 {
		opts.Timeout = time.Second
	}
	if opts.Size == 0 {
		opts.Size = 56
	}
	p := &pinger{
		echoes: family, to: to, opts: opts,
		result: &PingResult{ID: uint16(rand.Uint32())},
		sent:   make(map[int]time.Time),
		data:   make(map[int][]byte),
	}
	err := h.Do(func() (err error) {
		p.conn, err = icmp.ListenPacket(p.network, opts.Source.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	if to.Is6() {
		return p, p.conn.IPv6PacketConn().SetControlMessage(ipv6.FlagHopLimit, true)
	}
	return p, p.conn.IPv4PacketConn().SetControlMessage(ipv4.FlagTTL, true)
}

// read reads an ICMP message and the time to live, or hop limit, with which it came: 0 if the
// kernel does not say.
func (p *pinger) read(buffer []byte) (n, ttl int, from net.Addr, err error) {
	if p.to.Is6() {
		n, control, from, err := p.conn.IPv6PacketConn().ReadFrom(buffer)
		if control != nil {
			ttl = control.HopLimit
		}
		return n, ttl, from, err
	}
	n, control, from, err := p.conn.IPv4PacketConn().ReadFrom(buffer)
	if control != nil {
		ttl = control.TTL
	}
	return n, ttl, from, err
}

// run sends at each interval, and listens in between and for the timeout at the end.
func (p *pinger) run(ctx context.Context) error {
	for seq := 1; seq <= p.opts.Count; seq++ {
		if err := p.send(seq); err != nil {
			return err
		}
		wait := p.opts.Interval
		if seq == p.opts.Count {
			wait = p.opts.Timeout
		}
		if err := p.listen(ctx, time.Now().Add(wait), seq == p.opts.Count); err != nil {
			return err
		}
	}
	return nil
}

// send sends one request, laid out as ping's: the time, then bytes that count
// upwards from 0x10.
func (p *pinger) send(seq int) error {
	now := time.Now()
	data := make([]byte, max(p.opts.Size, 16))
	binary.LittleEndian.PutUint64(data, uint64(now.Unix()))
	binary.LittleEndian.PutUint64(data[8:], uint64(now.Nanosecond()/1000))
	for i := 16; i < len(data); i++ {
		data[i] = byte(i)
	}
	request, err := (&icmp.Message{
		Type: p.request,
		Body: &icmp.Echo{ID: int(p.result.ID), Seq: seq, Data: data},
	}).Marshal(nil) // the kernel makes the checksum of ICMPv6
	if err != nil {
		return err
	}
	p.sent[seq], p.data[seq] = now, data
	p.result.Sent++
	_, err = p.conn.WriteTo(request, &net.IPAddr{IP: p.to.AsSlice(), Zone: p.to.Zone()})
	if errors.Is(err, unix.EPERM) {
		return nil // the packet filter drops it: it is lost, as on its way
	}
	return err
}

// listen takes replies until the deadline, or until none is missing.
func (p *pinger) listen(ctx context.Context, deadline time.Time, last bool) error {
	stop := context.AfterFunc(ctx, func() { p.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	buffer := make([]byte, 1<<16)
	for ctx.Err() == nil && !(last && p.result.Lost() == 0) {
		n, ttl, from, err := p.read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
		if err := p.receive(buffer[:n], ttl, from, time.Now()); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// receive counts a reply. The socket receives all ICMP messages of the host, so receive
// ignores those that are no reply to this ping.
func (p *pinger) receive(message []byte, ttl int, from net.Addr, now time.Time) error {
	parsed, err := icmp.ParseMessage(p.reply.Protocol(), message)
	if err != nil {
		return nil
	}
	echo, ok := parsed.Body.(*icmp.Echo)
	if !ok || parsed.Type != p.reply || echo.ID != int(p.result.ID) {
		return nil
	}
	sent, ok := p.sent[echo.Seq]
	if !ok {
		p.result.Duplicates++
		return nil
	}
	if !bytes.Equal(echo.Data, p.data[echo.Seq]) {
		return fmt.Errorf("the payload of reply %d is not its request's", echo.Seq)
	}
	delete(p.sent, echo.Seq)
	address, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
	reply := PingReply{From: address.Unmap(), Seq: echo.Seq, TTL: ttl, Bytes: len(message), RTT: now.Sub(sent)}
	p.result.Replies = append(p.result.Replies, reply)
	if p.opts.OnReply != nil {
		p.opts.OnReply(reply)
	}
	return nil
}
