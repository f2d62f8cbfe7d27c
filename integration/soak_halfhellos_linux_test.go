//go:build soak

package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// halfHellos tells a program to begin connections from an address of its own, to send half of a hello by
// each, and to close the oldest when there are so many (idleProgram).
type halfHellos struct {
	order       // whose rate is that of new connections
	Address     netip.Addr
	Half        []byte
	Connections int
	While       time.Duration
}

// asHalfHellos is the environment variable that makes this test binary such a program.
const asHalfHellos = "CADDY_VNIC_AS_HALF_HELLOS"

func init() { programs[asHalfHellos] = sendHalfHellos }

// halfHellosFor lets all neighbours together keep n half hellos open for a while, 2,000 of them new each
// second.
func (s *scene) halfHellosFor(n int, while time.Duration) {
	s.t.Helper()
	const rate = 2000
	half := halfHello(s.t)
	var senders []*netlab.Process
	var sent []io.Reader
	for i, h := range s.Neighbours {
		o := halfHellos{
			order: s.orderFor(h), Address: netip.AddrFrom4([4]byte{192, 168, 1, byte(220 + i)}), Half: half,
			Connections: n / len(s.Neighbours), While: while,
		}
		o.Rate = rate / len(s.Neighbours)
		cmd := s.idleProgram(asHalfHellos, o)
		cmd.Stderr = os.Stderr
		output, err := cmd.StdoutPipe()
		if err != nil {
			s.t.Fatal(err)
		}
		sender, err := h.Start(cmd)
		if err != nil {
			s.t.Fatal(err)
		}
		senders, sent = append(senders, sender), append(sent, output)
	}
	accepted := 0
	for _, output := range sent {
		var own int
		if _, err := fmt.Fscan(output, &own); err != nil {
			s.t.Fatalf("half hellos: %v", err)
		}
		accepted += own
	}
	for _, sender := range senders {
		sender.Stop()
	}
	if want := rate * int(while/time.Second); accepted < want*9/10 {
		s.t.Errorf("of %d half hellos %d were accepted", want, accepted)
	}
}

// attacker has the connections of such a program. It has no TCP of the kernel's behind it, which in a
// test on one machine would cost more than what is attacked, and repeats in bursts of a thousand
// packets.
type attacker struct {
	halfHellos
	conn *packet.Conn
	to   net.Addr

	mu       sync.Mutex
	open     map[layers.TCPPort]*halfOpen
	oldest   layers.TCPPort // port of the oldest connection
	next     layers.TCPPort // of the next one
	accepted int
}

// halfOpen is a connection that was accepted.
type halfOpen struct {
	hello  []byte // the frame of half of a hello; nil: the server has acknowledged it
	due    time.Time
	again  time.Duration // after which time it is repeated then
	answer layers.TCP    // the last to the server
}

// firstPort is the first of an attacker's ports, which it uses in turn.
const firstPort = 1024

// firstRepeat is after which time the half hello comes again, as Linux does it (TCP_RTO_MIN); then after
// twice as long, and so on.
const firstRepeat = 200 * time.Millisecond

// sendHalfHellos is that program's main function. It prints how many connections were accepted.
func sendHalfHellos() error {
	a := attacker{open: make(map[layers.TCPPort]*halfOpen), oldest: firstPort, next: firstPort}
	if err := json.NewDecoder(os.Stdin).Decode(&a.halfHellos); err != nil {
		return err
	}
	link, err := net.InterfaceByName(a.Device)
	if err != nil {
		return err
	}
	if a.conn, err = packet.Listen(link, packet.Raw, unix.ETH_P_ALL, nil); err != nil {
		return err
	}
	defer a.conn.Close()
	a.to = &packet.Addr{HardwareAddr: paper.NICMAC}
	heard := make(chan error, 1)
	go func() { heard <- a.hear() }()
	tick := time.NewTicker(time.Second / time.Duration(a.Rate))
	defer tick.Stop()
	for over := time.After(a.While); ; {
		select {
		case <-over:
			a.mu.Lock()
			fmt.Println(a.accepted)
			a.mu.Unlock()
			return unix.Pause() // until it is stopped
		case err := <-heard:
			return err
		case now := <-tick.C:
			if err := a.begin(now); err != nil {
				return err
			}
		}
	}
}

// begin begins a connection, closes the oldest one if there are too many, and repeats what is due.
func (a *attacker) begin(now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	syn := layers.TCP{SrcPort: a.next, SYN: true, Seq: uint32(now.UnixNano() / 4000), Options: []layers.TCPOption{
		{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{1460 >> 8, 1460 & 0xff}},
		{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2},
		{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{7}},
	}}
	errs := []error{a.send(a.frame(syn, nil))}
	a.next++
	if int(a.next-a.oldest) > a.Connections {
		if c := a.open[a.oldest]; c != nil {
			fin := c.answer
			fin.FIN = true
			errs = append(errs, a.send(a.frame(fin, nil)))
			delete(a.open, a.oldest)
		}
		a.oldest++
	}
	for _, c := range a.open {
		if c.hello != nil && now.After(c.due) {
			errs = append(errs, a.send(c.hello))
			c.again *= 2
			c.due = now.Add(c.again)
		}
	}
	return errors.Join(errs...)
}

// hear answers what comes.
func (a *attacker) hear() error {
	frame := make([]byte, 1<<16)
	for {
		n, _, err := a.conn.ReadFrom(frame)
		if err != nil {
			return err
		}
		p := gopacket.NewPacket(frame[:n], layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true, Lazy: true})
		if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
			err = a.hearARP(arp)
		} else if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.DstIP.Equal(a.Address.AsSlice()) {
			if tcp, ok := p.TransportLayer().(*layers.TCP); ok {
				err = a.hearTCP(tcp)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (a *attacker) hearARP(asked *layers.ARP) error {
	if asked.Operation != layers.ARPRequest || !net.IP(asked.DstProtAddress).Equal(a.Address.AsSlice()) {
		return nil
	}
	return a.send(serialize(
		&layers.Ethernet{SrcMAC: a.MAC, DstMAC: asked.SourceHwAddress, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
			SourceHwAddress: a.MAC, SourceProtAddress: a.Address.AsSlice(), DstHwAddress: asked.SourceHwAddress, DstProtAddress: asked.SourceProtAddress,
		},
	))
}

// hearTCP sends half of a hello to who accepts, repeats it no more when it is acknowledged, and
// acknowledges a FIN.
func (a *attacker) hearTCP(tcp *layers.TCP) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.open[tcp.DstPort]
	answer := layers.TCP{SrcPort: tcp.DstPort, ACK: true, Seq: tcp.Ack, Ack: tcp.Seq + 1}
	switch {
	case tcp.RST:
		delete(a.open, tcp.DstPort)
	case tcp.SYN && tcp.ACK && c == nil:
		a.accepted++
		hello := answer
		hello.PSH = true
		c = &halfOpen{hello: a.frame(hello, a.Half), due: time.Now().Add(firstRepeat), again: firstRepeat, answer: answer}
		c.answer.Seq += uint32(len(a.Half))
		a.open[tcp.DstPort] = c
		return errors.Join(a.send(a.frame(answer, nil)), a.send(c.hello))
	case tcp.FIN:
		return a.send(a.frame(answer, nil))
	case c != nil && !tcp.SYN && tcp.Ack == c.answer.Seq:
		c.hello = nil
	}
	return nil
}

// frame makes a frame to the server.
func (a *attacker) frame(tcp layers.TCP, payload []byte) []byte {
	tcp.DstPort, tcp.Window = 443, 502
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: a.Address.AsSlice(), DstIP: paper.PseudoAddr.AsSlice(), Flags: layers.IPv4DontFragment}
	tcp.SetNetworkLayerForChecksum(ip)
	return serialize(&layers.Ethernet{SrcMAC: a.MAC, DstMAC: paper.NICMAC, EthernetType: layers.EthernetTypeIPv4}, ip, &tcp, gopacket.Payload(payload))
}

// send sends a frame. If the link is full, it is lost.
func (a *attacker) send(frame []byte) error {
	_, err := a.conn.WriteTo(frame, a.to)
	if errors.Is(err, unix.ENOBUFS) {
		return nil
	}
	return err
}
