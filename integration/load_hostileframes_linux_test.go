package integration_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// hostile makes hostile frames, the same in every run. The sender's MAC is its
// own, lest the switch be fooled in place of the bridge.
type hostile struct {
	random    *rand.Rand
	mac       net.HardwareAddr
	templates [][]byte // real frames
	wrong     [][]byte // from sources that nobody outside can have
	longest   int      // IP packet that the link carries
}

func newHostile(mac net.HardwareAddr) *hostile {
	h := &hostile{random: rand.New(rand.NewPCG(2, 6)), mac: mac, longest: 1500}
	question := arpRequest(mac, netip.MustParseAddr("192.168.1.11"), netip.MustParseAddr("192.168.50.1"))
	copy(question, paper.NICMAC)
	h.templates = append(h.realFrames("192.168.1.11"), question)
	for _, source := range []string{
		"192.168.50.1", "192.168.50.2", "192.168.60.1", "192.168.1.2", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
	} {
		h.wrong = append(h.wrong, h.realFrames(source)...)
	}
	return h
}

// realFrames are frames from a source to the pseudo address, with valid checksums.
func (h *hostile) realFrames(source string) (frames [][]byte) {
	eth := &layers.Ethernet{SrcMAC: h.mac, DstMAC: paper.NICMAC, EthernetType: layers.EthernetTypeIPv4}
	build := func(proto layers.IPProtocol, payload ...gopacket.SerializableLayer) {
		ip := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: proto,
			SrcIP: net.ParseIP(source), DstIP: paper.PseudoAddr.AsSlice(),
		}
		for _, l := range payload {
			if transport, ok := l.(interface {
				SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
			}); ok {
				transport.SetNetworkLayerForChecksum(ip)
			}
		}
		frames = append(frames, serialize(append([]gopacket.SerializableLayer{eth, ip}, payload...)...))
	}
	tcp, udp, icmp := layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolICMPv4
	build(tcp, &layers.TCP{SrcPort: 1234, DstPort: 80, SYN: true, Window: 64240})
	build(tcp, &layers.TCP{SrcPort: 1234, DstPort: 80, ACK: true, PSH: true}, gopacket.Payload("GET / HTTP/1.0\r\n\r\n"))
	build(tcp, &layers.TCP{SrcPort: 1234, DstPort: 22, SYN: true})
	build(tcp, &layers.TCP{SrcPort: 1234, DstPort: 80, RST: true})
	build(udp, &layers.UDP{SrcPort: 1234, DstPort: 53}, gopacket.Payload("question"))
	build(icmp, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1}, gopacket.Payload("ping"))
	build(icmp, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(5, 1)}, gopacket.Payload("redirect"))
	build(layers.IPProtocolGRE, gopacket.Payload("no flow at all"))
	return frames
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		panic(err)
	}
	return buffer.Bytes()
}

// frame makes the next frame.
func (h *hostile) frame() []byte {
	kinds := []func() []byte{
		h.noise, h.mutated, h.foreign, h.tagged, h.broadcast, h.proper, h.fragment, h.options, h.badChecksum, h.wrongLength, h.icmpError, h.long,
	}
	return kinds[h.random.IntN(len(kinds))]()
}

// foreign is from a source that cannot be.
func (h *hostile) foreign() []byte { return h.oneOf(h.wrong) }

// tagged has one VLAN tag, or two.
func (h *hostile) tagged() []byte {
	f := h.oneOf(h.templates)
	for range 1 + h.random.IntN(2) {
		kind := [][]byte{{0x81, 0x00}, {0x88, 0xa8}}[h.random.IntN(2)]
		f = slices.Concat(f[:12], kind, h.bytes(2), f[12:])
	}
	return f
}

// broadcast is for everybody.
func (h *hostile) broadcast() []byte {
	f := h.oneOf(h.templates)
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	return f
}

// proper is from a client of its own, as it should be.
func (h *hostile) proper() []byte {
	f := h.oneOf(h.templates)
	copy(f[34:36], h.bytes(2))
	return f
}

func (h *hostile) oneOf(frames [][]byte) []byte {
	return slices.Clone(frames[h.random.IntN(len(frames))])
}

// noise is random bytes: as they come, as ARP, or as IPv4 to the pseudo address.
func (h *hostile) noise() []byte {
	f := slices.Concat(paper.NICMAC, h.mac, h.bytes(2+h.random.IntN(1500)))
	switch h.random.IntN(3) {
	case 0:
		copy(f[12:], []byte{0x08, 0x06})
	case 1:
		copy(f[12:], []byte{0x08, 0x00})
		if len(f) >= 34 {
			copy(f[30:], paper.PseudoAddr.AsSlice())
		}
	}
	return f
}

// mutated is a real frame with some bytes behind the Ethernet header changed, or
// cut short, or both. Who claims to be the gateway takes its traffic, as on any
// link: that is left out.
func (h *hostile) mutated() []byte {
	f := h.oneOf(h.templates)
	arp := binary.BigEndian.Uint16(f[12:]) == 0x0806
	for range 1 + h.random.IntN(4) {
		at := 14 + h.random.IntN(len(f)-14)
		// What is not for the pseudo address is not even looked at.
		if destination, sender := !arp && at >= 30 && at <= 33, arp && at >= 28 && at <= 31; !destination && !sender {
			f[at] = byte(h.random.Uint32())
		}
	}
	if h.random.IntN(2) == 0 {
		f = f[:14+h.random.IntN(len(f)-14)]
	}
	return f
}

// packet is an Ethernet frame with an IPv4 packet to the pseudo address. Lengths
// and the header's checksum are right; edit may change that.
func (h *hostile) packet(protocol byte, options, payload []byte, edit func(ip []byte)) []byte {
	ip := slices.Concat(make([]byte, 20), options, payload)
	ip[0] = 0x45 + byte(len(options)/4)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], uint16(h.random.IntN(64))) // few: fragments meet others
	ip[8], ip[9] = 64, protocol
	source := netip.AddrFrom4([4]byte{192, 168, 1, byte(20 + h.random.IntN(8))})
	copy(ip[12:], source.AsSlice())
	copy(ip[16:], paper.PseudoAddr.AsSlice())
	if edit != nil {
		edit(ip)
	}
	setChecksum(ip[:20+len(options)], 10)
	return slices.Concat(paper.NICMAC, h.mac, []byte{0x08, 0x00}, ip)
}

// setChecksum puts the Internet checksum (RFC 1071) of all of b at a place in it.
func setChecksum(b []byte, at int) {
	b[at], b[at+1] = 0, 0
	var sum uint32
	for i, octet := range b {
		sum += uint32(octet) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[at:], ^uint16(sum))
}

// transport is the payload of a packet, of a length: TCP or UDP to the open ports,
// or an ICMP echo, with nothing but chance in the rest.
func (h *hostile) transport(length int) (protocol byte, payload []byte) {
	payload = h.bytes(max(length, 20))
	switch h.random.IntN(3) {
	case 0:
		protocol = 6
		binary.BigEndian.PutUint16(payload[2:], 80)
		payload[12] = 0x50
	case 1:
		protocol = 17
		binary.BigEndian.PutUint16(payload[2:], 5000)
		binary.BigEndian.PutUint16(payload[4:], uint16(length))
		binary.BigEndian.PutUint16(payload[6:], 0) // no checksum
	default:
		protocol = 1
		payload[0], payload[1] = 8, 0
		setChecksum(payload, 2)
	}
	return protocol, payload[:length]
}

// fragment overlaps others, ends beyond the longest packet, has no end, no
// beginning, or only a part of the transport header.
func (h *hostile) fragment() []byte {
	protocol, payload := h.transport(8 * (1 + h.random.IntN(40)))
	return h.packet(protocol, nil, payload, func(ip []byte) {
		offset := uint16(h.random.IntN(1 << 13)) // anywhere
		if h.random.IntN(2) == 0 {
			offset = uint16(h.random.IntN(8)) // overlapping the first
		}
		const moreFragments = 1 << 13
		if h.random.IntN(8) > 0 {
			offset |= moreFragments
		}
		binary.BigEndian.PutUint16(ip[6:], offset)
	})
}

// options has IP options of any length and kind, source routes among them.
func (h *hostile) options() []byte {
	options := h.bytes(4 * (1 + h.random.IntN(10)))
	options[0] = []byte{0x07, 0x44, 0x83, 0x89, 0x94, options[0]}[h.random.IntN(6)] // record route, timestamp, LSRR, SSRR, alert
	if h.random.IntN(2) == 0 {
		options[1] = byte(len(options))
	}
	protocol, payload := h.transport(8 + h.random.IntN(100))
	return h.packet(protocol, options, payload, nil)
}

// badChecksum has a wrong sum over the header or over the rest.
func (h *hostile) badChecksum() []byte {
	f := h.oneOf(h.templates)
	if at := []int{24, 36, 40, 50}[h.random.IntN(4)]; at+2 <= len(f) {
		copy(f[at:], h.bytes(2))
	}
	return f
}

// wrongLength has lengths that do not go with the frame's: of the header, the
// packet, the TCP header or the UDP datagram.
func (h *hostile) wrongLength() []byte {
	protocol, payload := h.transport(1 + h.random.IntN(60))
	return h.packet(protocol, nil, payload, func(ip []byte) {
		switch at := []int{0, 2, 24, 32}[h.random.IntN(4)]; at {
		case 0: // the header's length, and the version
			ip[0] = byte(h.random.IntN(256))
		default:
			copy(ip[min(at, len(ip)):], h.bytes(2))
		}
	})
}

// icmpError is about a packet that the server might have sent, or about nothing,
// and quotes as much of it as it likes.
func (h *hostile) icmpError() []byte {
	protocol, inner := h.transport(8 + h.random.IntN(40))
	quoted := h.packet(protocol, nil, inner, func(ip []byte) {
		if h.random.IntN(4) > 0 {
			source := slices.Clone(ip[12:16])
			copy(ip[12:], ip[16:20])
			copy(ip[16:], source)
		}
	})[14:]
	kind := []byte{3, 4, 5, 11, 12}[h.random.IntN(5)]
	message := slices.Concat([]byte{kind, byte(h.random.IntN(16))}, h.bytes(6), quoted[:h.random.IntN(len(quoted)+1)])
	setChecksum(message, 2)
	return h.packet(1, nil, message, nil)
}

// long fills the link, jumbo frames included.
func (h *hostile) long() []byte {
	protocol, payload := h.transport(1000 + h.random.IntN(h.longest-1020+1))
	return h.packet(protocol, nil, payload, func(ip []byte) {
		ip[6] = byte(h.random.IntN(2)) << 6 // don't fragment, or do
	})
}

func (h *hostile) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.random.Uint32())
	}
	return b
}
