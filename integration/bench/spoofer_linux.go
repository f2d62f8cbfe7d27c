package main

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// spoofer sends datagrams to the discard service from any address and port, without a socket
// for each.
type spoofer struct {
	fd     int
	to     unix.Sockaddr
	packet []byte
	source []byte // the source address in the packet
	udp    []byte // the UDP header in the packet
	sum    uint32 // of all that the UDP checksum covers except the source; 0: there is no checksum
}

// The headers have no options. The payload has room for a sequence number, which the
// spoofer does not use.
const udpHeaderLen, payloadLen = 8, 16

func newSpoofer(s *site) (*spoofer, error) {
	to := s.publicPort(discardPort)
	fd, err := openSocket(s.client, to.Addr(), unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	sender := &spoofer{fd: fd, to: sockaddr(netip.AddrPortFrom(to.Addr(), 0))}
	if s.is6() {
		sender.ipv6(to.Addr())
	} else {
		sender.ipv4(to.Addr())
	}
	binary.BigEndian.PutUint16(sender.udp[2:], to.Port())
	binary.BigEndian.PutUint16(sender.udp[4:], udpHeaderLen+payloadLen)
	for i := range payloadLen {
		sender.udp[udpHeaderLen+i] = 0xff
	}
	if s.is6() {
		pseudoHeader := []byte{0, unix.IPPROTO_UDP, 0, udpHeaderLen + payloadLen}
		sender.sum = sumOf(to.Addr().AsSlice()) + sumOf(sender.udp) + sumOf(pseudoHeader)
	}
	return sender, nil
}

// ipv4 makes the packet's IPv4 header. The kernel fills in length, identification and
// checksum. The UDP checksum stays 0, which means none.
func (s *spoofer) ipv4(to netip.Addr) {
	const header = 20
	s.packet = make([]byte, header+udpHeaderLen+payloadLen)
	s.packet[0], s.packet[8], s.packet[9] = 0x45, 64, unix.IPPROTO_UDP
	copy(s.packet[16:], to.AsSlice())
	s.source, s.udp = s.packet[12:16], s.packet[header:]
}

// ipv6 makes the packet's IPv6 header. There the UDP checksum must not be 0 (RFC 8200 §8.1).
func (s *spoofer) ipv6(to netip.Addr) {
	const header = 40
	s.packet = make([]byte, header+udpHeaderLen+payloadLen)
	s.packet[0], s.packet[5], s.packet[6], s.packet[7] = 0x60, udpHeaderLen+payloadLen, unix.IPPROTO_UDP, 64
	copy(s.packet[24:], to.AsSlice())
	s.source, s.udp = s.packet[8:24], s.packet[header:]
}

func (s *spoofer) send(from netip.AddrPort) error {
	copy(s.source, from.Addr().AsSlice())
	binary.BigEndian.PutUint16(s.udp, from.Port())
	if s.sum != 0 {
		sum := s.sum + sumOf(s.source) + uint32(from.Port())
		sum = sum&0xffff + sum>>16
		binary.BigEndian.PutUint16(s.udp[6:], ^uint16(sum&0xffff+sum>>16))
	}
	err := again(func() error { return unix.Sendto(s.fd, s.packet, 0, s.to) })
	if err == unix.ENOBUFS { // the link is full: the datagram is lost, as on a wire
		return nil
	}
	return err
}

// sumOf adds up bytes as 16-bit numbers, which is what a checksum is made of (RFC 1071).
func sumOf(b []byte) (sum uint32) {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return sum
}

func (s *spoofer) close() { _ = unix.Close(s.fd) }
