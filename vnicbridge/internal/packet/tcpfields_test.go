package packet

import (
	"encoding/binary"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// tcpFields are the fields of a TCP segment, as a test writes them.
type tcpFields struct {
	flags   byte
	ae      bool
	seq     uint32
	ack     uint32
	window  uint16
	urgent  uint16
	options []byte // a multiple of 4 bytes
	payload string
}

// variants are the kinds of packets in which a segment comes.
var variants = []struct {
	name       string
	wide       bool // IPv6
	unfinished bool // the checksum is not finished
}{
	{"IPv4", false, false}, {"IPv4, checksum unfinished", false, true},
	{"IPv6", true, false}, {"IPv6, checksum unfinished", true, true},
}

// frame returns the frame of a segment, with a computed checksum.
func (f tcpFields) frame(wide, unfinished bool) Frame {
	l4 := make([]byte, tcpMinLen, tcpMinLen+len(f.options)+len(f.payload))
	binary.BigEndian.PutUint16(l4, 4000)
	binary.BigEndian.PutUint16(l4[2:], 80)
	binary.BigEndian.PutUint32(l4[4:], f.seq)
	binary.BigEndian.PutUint32(l4[8:], f.ack)
	l4[12] = byte(tcpMinLen+len(f.options)) / 4 << 4
	if f.ae {
		l4[12] |= 1
	}
	l4[13] = f.flags
	binary.BigEndian.PutUint16(l4[14:], f.window)
	binary.BigEndian.PutUint16(l4[18:], f.urgent)
	l4 = append(append(l4, f.options...), f.payload...)

	src, dst := AddrFrom4([]byte{203, 0, 113, 9}), AddrFrom4([]byte{192, 168, 1, 2})
	if wide {
		src, dst = mustAddr(testSrc), mustAddr(testDst)
	}
	addresses := sumOf(src[:]) + sumOf(dst[:]) - 2*0xffff // without what maps IPv4 into IPv6
	if wide {
		addresses += 2 * 0xffff
	}
	sum := Fold(addresses + uint32(config.TCP) + uint32(len(l4)))
	if !unfinished {
		sum = ^Fold(uint32(sum) + sumOf(l4))
	}
	binary.BigEndian.PutUint16(l4[16:], sum)

	var frame Frame
	if wide {
		frame = frameOf(ipv6(src, dst, byte(config.TCP), l4))
	} else {
		ip := []byte{0x45, 2, 0, 0, 0x2c, 0x93, 0x40, 0, 63, byte(config.TCP), 0, 0}
		ip = append(append(append(ip, src.V4()...), dst.V4()...), l4...)
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		binary.BigEndian.PutUint16(ip[10:], ^Fold(sumOf(ip[:IPv4MinLen])))
		frame = frameOf(ip)
		binary.BigEndian.PutUint16(frame.Eth()[12:], EtherIPv4)
	}
	if unfinished {
		frame.Data[0] = VNetNeedsCsum
	}
	return frame
}

// parsed returns the packet of a frame.
func parsed(t *testing.T, f *Frame) Packet {
	t.Helper()
	parse := ParseIPv4
	if f.EtherType() == EtherIPv6 {
		parse = ParseIPv6
	}
	p, verdict := parse(f)
	if verdict != Keep {
		t.Fatalf("the packet is dropped: %s", verdict)
	}
	return p
}

// changes tells that a change turns one segment into another, of any variant, and that nothing
// else in the frame changes.
func changes(t *testing.T, from, to tcpFields, change func(p *Packet, unfinished bool)) {
	t.Helper()
	for _, v := range variants {
		frame, want := from.frame(v.wide, v.unfinished), to.frame(v.wide, v.unfinished)
		p := parsed(t, &frame)
		change(&p, v.unfinished)
		if string(frame.Data) != string(want.Data) {
			t.Errorf("%s: the frame is\n%x, want\n%x", v.name, frame.Data, want.Data)
		}
	}
}
