package integration_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Row F7+: a neighbour sends 20,000 fragments a second without a first one, from addresses
// that are not its own. Meanwhile PC1's large pings are answered, and thousands of large
// datagrams reach a segment's server and come back.
func TestFragmentsBesideStrays(t *testing.T) {
	onEachInTurn(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{Neighbours: 1})
		s.start(caddyfile{datapath: datapath, a: "ports any"})
		s.echoUDP(s.Server, "192.168.50.1:5000")
		stop := s.floodStrays(20000)
		defer stop()
		if out := s.run(s.PC1, "ping", "-c", "20", "-i", "0.05", "-s", "4000", "192.168.1.2"); !strings.Contains(out, " 20 received") {
			t.Errorf("large pings beside the flood:\n%s", out)
		}
		s.wantLargeDatagrams(10000)
		if n := stop(); n < 20000 {
			t.Errorf("the flood was of %d fragments only", n)
		}
	})
}

// floodStrays has a neighbour send fragments without a first one, so many a second, until
// it is stopped, which tells how many there were.
func (s *scene) floodStrays(rate int) (stop func() int) {
	s.t.Helper()
	conn, mac, err := rawSocket(s.Neighbours[0], "eth0")
	if err != nil {
		s.t.Fatal(err)
	}
	stray := serialize(
		&layers.Ethernet{SrcMAC: mac, DstMAC: paper.NICMAC, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, FragOffset: 185, SrcIP: []byte{10, 0, 0, 0}, DstIP: paper.PseudoAddr.AsSlice()},
		gopacket.Payload(bytes.Repeat([]byte("stray..."), 185)),
	)
	ip := stray[14:34]
	ctx, cancel := context.WithCancel(s.t.Context())
	sent, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); ctx.Err() == nil; <-tick.C {
			for due := int(time.Since(began).Seconds() * float64(rate)); sent < due; sent++ {
				binary.BigEndian.PutUint16(ip[4:], uint16(sent))
				binary.BigEndian.PutUint16(ip[14:], uint16(sent))
				ip[10], ip[11] = 0, 0
				binary.BigEndian.PutUint16(ip[10:], headerChecksum(ip))
				s.sendFrames(conn, stray)
			}
		}
	}()
	return func() int {
		cancel()
		<-done
		return sent
	}
}

// headerChecksum is that of an IPv4 header whose field for it is zero (RFC 1071).
func headerChecksum(ip []byte) uint16 {
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// wantLargeDatagrams has PC1 send datagrams of 4,000 bytes to a server that sends them
// back, some at a time. Of a hundred, one may be lost where a queue is full.
func (s *scene) wantLargeDatagrams(n int) {
	s.t.Helper()
	const window = 16
	conn := s.packetConn(s.PC1, "192.168.10.2:7000")
	server := &net.UDPAddr{IP: paper.PseudoAddr.AsSlice(), Port: 5000}
	datagram, answer := bytes.Repeat([]byte("x"), 4000), make([]byte, 5000)
	answered := 0
	for sent := 0; sent < n; {
		for range window {
			binary.BigEndian.PutUint32(datagram, uint32(sent))
			if _, err := conn.WriteTo(datagram, server); err != nil {
				s.t.Fatal(err)
			}
			sent++
		}
		if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			s.t.Fatal(err)
		}
		for range window {
			size, _, err := conn.ReadFrom(answer)
			if err != nil {
				break
			}
			if number := binary.BigEndian.Uint32(answer); number >= uint32(sent) || !bytes.Equal(answer[4:size], datagram[4:]) {
				s.t.Fatalf("an answer of %d bytes to datagram %d of %d", size, number, sent)
			}
			answered++
		}
	}
	if answered < n*99/100 {
		s.t.Errorf("%d of %d large datagrams were answered", answered, n)
	}
}
