package vnicbridge

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// namedConfig is dualConfig whose names of a.example are in segment a. The policy gives all else
// to segment b.
func namedConfig() *config.Config {
	cfg := dualConfig()
	lan := cfg.Bridges["lan"]
	lan.Steer = []config.Rule{{Segment: "a", Names: []string{"A.example", "*.a.example"}}}
	lan.LBPolicy.Segments = []string{"b"}
	return cfg
}

// withNames runs a test of both families on each data path.
func withNames(t *testing.T, cfg *config.Config, test func(t *testing.T, r *rig, o outsider)) {
	t.Helper()
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, cfg, func(t *testing.T, r *rig) { test(t, r, o) })
		})
	}
}

// Flags of a TCP segment that the data plane does not read.
const (
	tcpPSH = 1 << 3
	tcpURG = 1 << 5
	tcpECE = 1 << 6
	tcpCWR = 1 << 7
)

const synAck = packet.TCPSYN | packet.TCPACK

// tcpSegment is a TCP segment as an end of the connection sees it.
type tcpSegment struct {
	flags          byte
	seq, ack       uint32
	window, urgent uint16
	mss            uint16
	scale          []byte   // nil: no such option
	permitted      bool     // SACK
	times          []uint32 // the timestamp and the echo
	sack           []uint32
	others         []byte // the kinds of other options, which have a byte each
	odd            bool   // its options are not arranged as RFC 7323 Appendix A recommends
	payload        string
}

var nop = layers.TCPOption{OptionType: layers.TCPOptionKindNop, OptionLength: 1}

// from returns the frame of the segment.
func (s tcpSegment) from(e ends) []byte {
	var options []layers.TCPOption
	put := func(kind byte, data ...byte) {
		options = append(options, layers.TCPOption{OptionType: layers.TCPOptionKind(kind), OptionLength: uint8(2 + len(data)), OptionData: data})
	}
	for _, kind := range s.others {
		put(kind, 0)
	}
	if s.mss > 0 {
		put(2, binary.BigEndian.AppendUint16(nil, s.mss)...)
	}
	if s.scale != nil {
		put(3, s.scale...)
	}
	if s.permitted {
		put(4)
	}
	words := func(kind byte, words []uint32) {
		var data []byte
		for _, w := range words {
			data = binary.BigEndian.AppendUint32(data, w)
		}
		if words != nil {
			if !s.odd && s.flags&packet.TCPSYN == 0 {
				options = append(options, nop, nop)
			}
			put(kind, data...)
		}
	}
	words(8, s.times)
	words(5, s.sack)
	ip := e.header(config.TCP)
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(e.sport), DstPort: layers.TCPPort(e.dport), Seq: s.seq, Ack: s.ack, Window: s.window, Urgent: s.urgent,
		FIN: s.flags&packet.TCPFIN != 0, SYN: s.flags&packet.TCPSYN != 0, RST: s.flags&packet.TCPRST != 0, PSH: s.flags&tcpPSH != 0,
		ACK: s.flags&packet.TCPACK != 0, URG: s.flags&tcpURG != 0, ECE: s.flags&tcpECE != 0, CWR: s.flags&tcpCWR != 0, Options: options,
	}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	return e.build(ip, tcp, gopacket.Payload(s.payload))
}

// readTCP reads the segment of a frame, whose checksums must be right.
func readTCP(t *testing.T, raw []byte) (s tcpSegment) {
	t.Helper()
	d := decode(raw)
	if !d.valid || d.proto != config.TCP {
		t.Errorf("no TCP, or with a wrong checksum: %+v", d)
	}
	tcp, ok := gopacket.NewPacket(raw, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok {
		t.Fatalf("no TCP: %x", raw)
	}
	s = tcpSegment{flags: d.flags, seq: tcp.Seq, ack: tcp.Ack, window: tcp.Window, urgent: tcp.Urgent, payload: string(tcp.Payload)}
	words := func(data []byte) (words []uint32) {
		for word := range slices.Chunk(data, 4) {
			words = append(words, binary.BigEndian.Uint32(word))
		}
		return words
	}
	for _, o := range tcp.Options {
		switch data := o.OptionData; o.OptionType {
		case 0, 1:
		case 2:
			s.mss = binary.BigEndian.Uint16(data)
		case 3:
			s.scale = data
		case 4:
			s.permitted = true
		case 5:
			s.sack = words(data)
		case 8:
			s.times = words(data)
		default:
			s.others = append(s.others, byte(o.OptionType))
		}
	}
	return s
}

// talk is a TCP connection to a bridge that chooses segments by name. A test writes both ends.
type talk struct {
	*rig
	o                outsider
	client, server   ends // the server's are known when it has been asked
	vnic             string
	asks, accepts    tcpSegment // the SYN and the SYN-ACK, each as its sender writes it
	offer            tcpSegment // the bridge's SYN-ACK
	clientSeq        uint32     // what the client sends next
	clientTime, echo uint32     // the client's timestamp, and the one it has from the other end
	odd              bool       // of all segments
}

// talk returns a connection that has not begun.
func (r *rig) talk(o outsider, port uint16) *talk {
	return &talk{
		rig: r, o: o, client: o.from(o.host, port, 80),
		asks:       tcpSegment{flags: packet.TCPSYN, seq: 1<<32 - 20, window: 64240, mss: 1400, scale: []byte{9}, permitted: true, times: []uint32{500, 0}},
		accepts:    tcpSegment{flags: synAck, seq: 1<<32 - 9, window: 65160, mss: 1460, scale: []byte{10}, permitted: true, times: []uint32{7000, 500}},
		clientTime: 501,
	}
}

// begin lets the client send its SYN, and takes the bridge's answer.
func (c *talk) begin() *talk {
	c.t.Helper()
	c.put("nic0", c.asks.from(c.client))
	c.offer = readTCP(c.t, c.one("nic0"))
	if c.offer.flags != synAck || c.offer.ack != c.asks.seq+1 {
		c.t.Fatalf("the SYN is answered by %+v", c.offer)
	}
	c.clientSeq, c.accepts.ack = c.asks.seq+1, c.asks.seq+1
	if c.offer.times != nil {
		c.echo = c.offer.times[0]
	}
	return c
}

// says returns a segment of the client, at so many bytes behind its SYN. The client has
// acknowledged the SYN-ACK, and nothing more.
func (c *talk) says(at int, payload string) tcpSegment {
	s := tcpSegment{flags: packet.TCPACK, seq: c.asks.seq + 1 + uint32(at), ack: c.offer.seq + 1, window: 502, payload: payload}
	if c.offer.times != nil {
		s.times = []uint32{c.clientTime, c.echo}
	}
	return s
}

// greet completes the handshake with the bridge.
func (c *talk) greet() *talk {
	c.t.Helper()
	c.begin().sends(c.says(0, ""))
	return c
}

// sends lets the client send segments.
func (c *talk) sends(segments ...tcpSegment) {
	c.t.Helper()
	for _, s := range segments {
		s.odd = c.odd
		c.put("nic0", s.from(c.client))
	}
}

// answers lets the server send segments.
func (c *talk) answers(segments ...tcpSegment) {
	c.t.Helper()
	for _, s := range segments {
		s.odd = c.odd
		c.put(c.vnic, s.from(c.server))
	}
}

// atServer takes the one segment that has come to the server.
func (c *talk) atServer() tcpSegment {
	c.t.Helper()
	return readTCP(c.t, c.one(c.vnic))
}

// atClient takes the one segment that has come to the client.
func (c *talk) atClient() tcpSegment {
	c.t.Helper()
	return readTCP(c.t, c.one("nic0"))
}

// asked takes the SYN that came to a segment's server, and tells the segment: "none" if there is
// no SYN.
func (c *talk) asked() (segment string, syn tcpSegment) {
	c.t.Helper()
	segment, raw := c.oneOf()
	if raw == nil {
		return segment, syn
	}
	c.vnic = "vnic-" + strings.ToUpper(segment)
	d := decode(raw)
	c.server = ends{d.dstMAC, d.srcMAC, d.dst, d.src, d.dport, d.sport}
	return segment, readTCP(c.t, raw)
}

// asksForSegment checks which segment is asked.
func (c *talk) asksForSegment(want string) (syn tcpSegment) {
	c.t.Helper()
	segment, syn := c.asked()
	if segment != want {
		c.t.Fatalf("segment %s is asked, want %s", segment, want)
	}
	return syn
}

// accept lets the server accept the connection, and takes what the bridge delivers.
func (c *talk) accept() (delivered []tcpSegment) {
	c.t.Helper()
	c.answers(c.accepts)
	for _, raw := range c.got(c.vnic) {
		delivered = append(delivered, readTCP(c.t, raw))
	}
	return delivered
}

// openNamed opens a connection whose client asks for a name of segment a, which has got the request.
func (r *rig) openNamed(o outsider, port uint16) *talk {
	r.t.Helper()
	c := r.talk(o, port)
	c.opens()
	return c
}

// opens lets both ends open the connection, as the test has set them up.
func (c *talk) opens() {
	c.t.Helper()
	c.greet().sends(c.says(0, headOfA))
	c.asksForSegment("a")
	c.clientSeq += uint32(len(headOfA))
	if got := payloads(c.accept()); got != headOfA {
		c.t.Fatalf("the server gets %q", got)
	}
	c.silent("nic0")
}

// clientSays returns a segment of the client of an open connection, which has acknowledged so much
// of the server's.
func (c *talk) clientSays(flags byte, ack uint32, payload string) tcpSegment {
	s := c.says(0, payload)
	s.flags, s.seq, s.ack = flags, c.clientSeq, c.offer.seq+1+ack
	return s
}

// serverSays returns a segment of the server of an open connection, at so many bytes behind its SYN.
// The server has acknowledged all of the client's.
func (c *talk) serverSays(flags byte, at uint32, payload string) tcpSegment {
	s := tcpSegment{flags: flags, seq: c.accepts.seq + 1 + at, ack: c.clientSeq, window: 501, payload: payload}
	if c.accepts.times != nil {
		s.times = []uint32{c.accepts.times[0] + 10, c.clientTime}
	}
	return s
}

func payloads(segments []tcpSegment) (all string) {
	for _, s := range segments {
		all += s.payload
	}
	return all
}

// same checks that a segment is another one.
func same(t *testing.T, what string, got, want tcpSegment) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n%+v, want\n%+v", what, got, want)
	}
}

// headOfA is the head of a request for a name of segment a.
const headOfA = "GET / HTTP/1.1\r\nHost: www.a.example\r\n\r\n"

// helloFor returns the ClientHello of crypto/tls for a name.
func helloFor(t *testing.T, name string) string {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		client.Close()
	}()
	first := make([]byte, 1<<16)
	n, err := server.Read(first)
	if err != nil {
		t.Fatal(err)
	}
	return string(first[:n])
}

// pass lets time pass, and takes what the devices sent.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	for _, d := range r.machine.devices {
		d.take()
	}
}
