package integration_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// Rows N2 and N3: a client's hello of 6 KiB comes in many segments, the last one first. In 15 of them
// it names its site; in 20, of which the bridge reads 16, the policy decides. Both ways the handshake
// with the server completes, because nothing is lost.
func TestAHelloInReverse(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		s := newScene(t, paper.NetworkOptions{IPv6: true})
		site := "b.example.com {\n\tbind vnic/%[1]s\n\ttls internal\n\trespond %[1]s\n}\n"
		s.start(caddyfile{
			datapath: datapath, families: "46", policy: "steer b name b.example.com\nlb_policy first a", global: "skip_install_trust",
			sites: fmt.Sprintf(site, "a") + fmt.Sprintf(site, "b"),
		})
		s.waitForCertificate("192.168.50.1:443", "b.example.com")
		s.waitForCertificate("192.168.60.1:443", "b.example.com")
		roots, err := s.caddy.Roots()
		if err != nil {
			t.Fatal(err)
		}
		// A RST of the kernel, which knows nothing of these connections, would end them.
		s.run(s.PC1, "nft", "table inet quiet { chain out { type filter hook output priority 0; tcp flags & rst == rst drop; }; }")
		config := &tls.Config{ServerName: "b.example.com", RootCAs: roots, NextProtos: append(longProtocols(20), "http/1.1")}
		port := uint16(4000)
		for _, ends := range [][2]netip.Addr{{paper.PC1Addr, paper.PseudoAddr}, {paper.PC1Addr6, paper.PseudoAddr6}} {
			for pieces, want := range map[int]string{15: "b", 20: "a"} {
				port++
				c := s.dialInReverse(netip.AddrPortFrom(ends[0], port), netip.AddrPortFrom(ends[1], 443), pieces)
				got, err := getOver(tls.Client(c.user, config), "https://b.example.com/")
				if err != nil || got != want {
					t.Errorf("%s, %d pieces: got %q (%v), want %q", ends[1], pieces, got, err, want)
				}
				if hello := c.close(); hello < 6<<10 {
					t.Errorf("the hello has %d bytes", hello)
				}
			}
		}
	})
}

// longProtocols are names of protocols that nobody speaks, of 250 bytes each.
func longProtocols(n int) (protocols []string) {
	for i := range n {
		protocols = append(protocols, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 247)))
	}
	return protocols
}

// getOver asks for a page over a connection, and returns what it has.
func getOver(conn net.Conn, url string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if err := request.Write(conn); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// reversed is a TCP connection of a client that sends the first that it has to say in several
// segments, the last one first. It is no TCP of an operating system: what is lost comes again after
// a while, and the server's segments must come in their order.
type reversed struct {
	raw        net.PacketConn
	from, to   netip.AddrPort
	user, pump net.Conn // the client writes to user
	closed     chan struct{}
	end        func()
	pieces     int
	first      int // bytes of what the client has said first

	mu       sync.Mutex
	next     uint32 // the number of what the client says next
	expected uint32 // that of what the server says next
	unacked  []piece
}

// piece is a segment of the client.
type piece struct {
	seq  uint32
	data []byte
}

// dialInReverse opens such a connection from PC1.
func (s *scene) dialInReverse(from, to netip.AddrPort, pieces int) *reversed {
	s.t.Helper()
	c := &reversed{from: from, to: to, pieces: pieces, next: 1<<32 - 1000, closed: make(chan struct{})} // the numbers wrap in the hello
	c.end = sync.OnceFunc(func() { close(c.closed) })
	network := "ip4:tcp"
	if from.Addr().Is6() {
		network = "ip6:tcp"
	}
	err := s.PC1.Do(func() (err error) {
		c.raw, err = net.ListenPacket(network, from.Addr().String())
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c.user, c.pump = net.Pipe()
	s.t.Cleanup(func() { c.close() })
	c.unacked = []piece{{seq: c.next}}
	c.next++
	accepted := make(chan struct{})
	go c.receive(sync.OnceFunc(func() { close(accepted) }))
	for deadline := time.Now().Add(time.Minute); ; {
		c.send(layers.TCP{SYN: true}, c.next-1, nil)
		select {
		case <-accepted:
			go c.say()
			go c.repeat()
			return c
		case <-time.After(time.Second):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s does not accept the connection", to)
		}
	}
}

// close ends the connection, and returns how long the hello was.
func (c *reversed) close() (hello int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(layers.TCP{RST: true, ACK: true}, c.next, nil)
	c.end()
	c.user.Close()
	c.pump.Close()
	c.raw.Close()
	return c.first
}

// send sends a segment.
func (c *reversed) send(tcp layers.TCP, seq uint32, data []byte) {
	var ip gopacket.NetworkLayer = &layers.IPv4{SrcIP: c.from.Addr().AsSlice(), DstIP: c.to.Addr().AsSlice(), Protocol: layers.IPProtocolTCP}
	if c.from.Addr().Is6() {
		ip = &layers.IPv6{SrcIP: c.from.Addr().AsSlice(), DstIP: c.to.Addr().AsSlice(), NextHeader: layers.IPProtocolTCP}
	}
	tcp.SrcPort, tcp.DstPort, tcp.Seq, tcp.Window = layers.TCPPort(c.from.Port()), layers.TCPPort(c.to.Port()), seq, 65535
	if tcp.ACK {
		tcp.Ack = c.expected
	}
	buffer := gopacket.NewSerializeBuffer()
	_ = tcp.SetNetworkLayerForChecksum(ip)
	if gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, &tcp, gopacket.Payload(data)) == nil {
		_, _ = c.raw.WriteTo(buffer.Bytes(), &net.IPAddr{IP: c.to.Addr().AsSlice()})
	}
}

// say sends what the client writes.
func (c *reversed) say() {
	buffer := make([]byte, 1<<16)
	for {
		n, err := c.pump.Read(buffer)
		if err != nil {
			return
		}
		c.mu.Lock()
		pieces := 1 + n/1000
		if c.first == 0 {
			c.first, pieces = n, c.pieces
		}
		var said []piece
		for i := range pieces {
			data := slices.Clone(buffer[i*n/pieces : (i+1)*n/pieces])
			said = append(said, piece{c.next, data})
			c.next += uint32(len(data))
		}
		c.unacked = append(c.unacked, said...)
		for _, p := range slices.Backward(said) {
			c.send(layers.TCP{ACK: true, PSH: true}, p.seq, p.data)
		}
		c.mu.Unlock()
	}
}

// repeat sends again what the server has not acknowledged.
func (c *reversed) repeat() {
	for {
		select {
		case <-c.closed:
			return
		case <-time.After(time.Second):
		}
		c.mu.Lock()
		for _, p := range c.unacked {
			c.send(layers.TCP{ACK: true, PSH: true}, p.seq, p.data)
		}
		c.mu.Unlock()
	}
}

// receive takes the server's segments. It calls accepted when the server has accepted the connection.
func (c *reversed) receive(accepted func()) {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := c.raw.ReadFrom(buffer)
		if err != nil {
			return
		}
		var tcp layers.TCP
		if !from.(*net.IPAddr).IP.Equal(c.to.Addr().AsSlice()) || tcp.DecodeFromBytes(buffer[:n], gopacket.NilDecodeFeedback) != nil || uint16(tcp.DstPort) != c.from.Port() {
			continue
		}
		if data := c.take(&tcp); len(data) > 0 {
			_, _ = c.pump.Write(data)
		}
		switch {
		case tcp.SYN:
			accepted()
		case tcp.FIN, tcp.RST:
			c.pump.Close()
		}
	}
}

// take acknowledges a segment of the server, and returns what it brings.
func (c *reversed) take(tcp *layers.TCP) (data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unacked = slices.DeleteFunc(c.unacked, func(p piece) bool { return int32(tcp.Ack-p.seq-uint32(len(p.data))) >= 0 })
	switch {
	case tcp.SYN:
		c.expected = tcp.Seq + 1
		c.unacked = nil
	case tcp.Seq == c.expected:
		data = tcp.Payload
		c.expected += uint32(len(data))
	case len(tcp.Payload) == 0:
		return nil
	}
	if tcp.SYN || len(tcp.Payload) > 0 {
		c.send(layers.TCP{ACK: true}, c.next, nil)
	}
	return data
}
