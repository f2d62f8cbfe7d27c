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
	to     *unix.SockaddrInet4
	packet []byte
}

// The headers have no options. The payload has room for a sequence number, which the
// spoofer does not use.
const ipHeaderLen, udpHeaderLen, payloadLen = 20, 8, 16

func newSpoofer(s *site) (*spoofer, error) {
	fd, err := openSocket(s.client, unix.SOCK_RAW, unix.IPPROTO_RAW, netip.AddrPort{})
	if err != nil {
		return nil, err
	}
	p := make([]byte, ipHeaderLen+udpHeaderLen+payloadLen)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP // the kernel fills in length, id and checksum
	to := s.publicPort(discardPort)
	copy(p[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(p[ipHeaderLen+2:], to.Port())
	binary.BigEndian.PutUint16(p[ipHeaderLen+4:], udpHeaderLen+payloadLen) // the checksum stays 0, which means none
	for i := range payloadLen {
		p[ipHeaderLen+udpHeaderLen+i] = 0xff
	}
	return &spoofer{fd: fd, to: sockaddr(netip.AddrPortFrom(to.Addr(), 0)), packet: p}, nil
}

func (s *spoofer) send(from netip.AddrPort) error {
	copy(s.packet[12:], from.Addr().AsSlice())
	binary.BigEndian.PutUint16(s.packet[ipHeaderLen:], from.Port())
	err := again(func() error { return unix.Sendto(s.fd, s.packet, 0, s.to) })
	if err == unix.ENOBUFS { // the link is full: the datagram is lost, as on a wire
		return nil
	}
	return err
}

func (s *spoofer) close() { _ = unix.Close(s.fd) }
