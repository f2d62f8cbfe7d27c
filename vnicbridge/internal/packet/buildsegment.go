package packet

import (
	"encoding/binary"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// Segment is a TCP segment without a payload that the bridge itself sends.
type Segment struct {
	Tuple
	Flags    uint8
	Seq, Ack uint32
	Window   uint16 // as it stands in the header, unscaled
	Options  []byte // a multiple of 4 bytes
}

// Frame returns the frame of the segment, with right checksums. Floods make the bridge send many
// segments, so this is faster than [BuildFrame].
func (s *Segment) Frame(src, dst config.MAC) Frame {
	ipLen, etherType := IPv4MinLen, uint16(EtherIPv4)
	if s.Dst.IsIPv6() {
		ipLen, etherType = IPv6HeaderLen, EtherIPv6
	}
	tcpLen := tcpMinLen + len(s.Options)
	f := Frame{Data: make([]byte, VNetHeaderLen+EthHeaderLen+ipLen+tcpLen)}
	eth := f.Eth()
	copy(eth, dst[:])
	copy(eth[6:], src[:])
	binary.BigEndian.PutUint16(eth[12:], etherType)
	p := Packet{IP: eth[EthHeaderLen:], L4: eth[EthHeaderLen+ipLen:]}
	s.putIP(p.IP, tcpLen)
	s.putTCP(p.L4)
	p.setTCPChecksum(false)
	return f
}

func (s *Segment) putIP(ip []byte, tcpLen int) {
	if s.Dst.IsIPv6() {
		ip[0] = 6 << 4
		binary.BigEndian.PutUint16(ip[4:], uint16(tcpLen))
		ip[6], ip[7] = byte(config.TCP), ownHopLimit
		copy(ip[8:], s.Src[:])
		copy(ip[24:], s.Dst[:])
		return
	}
	ip[0] = 4<<4 | IPv4MinLen/4
	binary.BigEndian.PutUint16(ip[2:], uint16(IPv4MinLen+tcpLen))
	binary.BigEndian.PutUint16(ip[6:], ipDontFragment)
	ip[8], ip[9] = ownHopLimit, byte(config.TCP)
	copy(ip[12:], s.Src.V4())
	copy(ip[16:], s.Dst.V4())
	binary.BigEndian.PutUint16(ip[10:], ^Fold(sumOf(ip[:IPv4MinLen])))
}

// putTCP writes the header, without the checksum.
func (s *Segment) putTCP(tcp []byte) {
	binary.BigEndian.PutUint16(tcp, s.Sport)
	binary.BigEndian.PutUint16(tcp[2:], s.Dport)
	binary.BigEndian.PutUint32(tcp[4:], s.Seq)
	binary.BigEndian.PutUint32(tcp[8:], s.Ack)
	tcp[12] = byte(len(tcp) / 4 << 4)
	tcp[13] = s.Flags
	binary.BigEndian.PutUint16(tcp[14:], s.Window)
	copy(tcp[tcpMinLen:], s.Options)
}
