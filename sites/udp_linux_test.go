package sites_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/sites"
)

// tunable is what quic-go sets on a socket, and how it reads and writes.
type tunable interface {
	net.PacketConn
	SyscallConn() (syscall.RawConn, error)
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	ReadMsgUDP(p, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error)
	WriteMsgUDP(p, oob []byte, to *net.UDPAddr) (n, oobn int, err error)
}

// TestOptionsReachEachSocket checks that the options that QUIC sets reach the sockets of both
// families, and each socket that comes later: also the one of the other family, and those
// after a stop.
func TestOptionsReachEachSocket(t *testing.T) {
	v4, v6 := families[0], families[1]
	both := []netip.Addr{v4.server, v6.server}
	for _, begin := range [][]netip.Addr{{v4.server}, {v6.server}, both} {
		for _, stopped := range []bool{false, true} {
			sockets, at := sites.NewSockets(new(planeStub)), freePort(t, both...)
			at.Addrs = begin
			if stopped {
				sockets.Stop("a")
			}
			pc := listenPacket(t, sockets, at).(tunable)
			const buffer = 200_000
			if err := pc.SetReadBuffer(buffer); err != nil {
				t.Fatal(err)
			}
			if err := pc.SetWriteBuffer(buffer); err != nil {
				t.Fatal(err)
			}
			eachDescriptor(t, pc, func(fd int) {
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1) // one of each two fails, as in quic-go
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
			})
			if err := sockets.Start(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			for _, addrs := range [][]netip.Addr{begin, both, {v4.server}, {v6.server}, both} {
				readdress(t, sockets, addrs...)
				sockets.Stop("a")
				if err := sockets.Start(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				checked := 0
				eachDescriptor(t, pc, func(fd int) {
					checked++
					checkOptions(t, fd, 2*buffer)
				})
				if checked != len(addrs) {
					t.Errorf("%v has %d sockets", addrs, checked)
				}
			}
		}
	}
}

func checkOptions(t *testing.T, fd, buffer int) {
	t.Helper()
	level, discover, ecn := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_RECVTOS
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if domain == unix.AF_INET6 {
		level, discover, ecn = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_RECVTCLASS
	}
	if err != nil {
		t.Error(err)
	}
	for _, o := range []struct{ level, name, want int }{
		{unix.SOL_SOCKET, unix.SO_RCVBUF, buffer},
		{unix.SOL_SOCKET, unix.SO_SNDBUF, buffer},
		{level, discover, unix.IP_PMTUDISC_PROBE},
		{level, ecn, 1},
	} {
		if got, err := unix.GetsockoptInt(fd, o.level, o.name); err != nil || got != o.want {
			t.Errorf("option %d/%d of a socket of domain %d is %d, want %d: %v", o.level, o.name, domain, got, o.want, err)
		}
	}
}

func eachDescriptor(t *testing.T, pc tunable, f func(fd int)) {
	t.Helper()
	raw, err := pc.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPacketInfoIsWhatWasDialed checks the control messages of both families: a datagram
// comes with the address that its client dialed, and one that is sent with this address goes
// to the same client, also in segments.
func TestPacketInfoIsWhatWasDialed(t *testing.T) {
	eachFamily(t, func(t *testing.T, at sites.Address, f family) {
		pc := listenPacket(t, sites.NewSockets(new(planeStub)), at).(tunable)
		peer := udpFrom(t, f.alias)
		send(t, peer, "ping", pc)
		p, oob := make([]byte, 16), make([]byte, 128)
		n, oobn, _, from, err := pc.ReadMsgUDP(p, oob)
		if err != nil || string(p[:n]) != "ping" || from.AddrPort().Addr() != f.client {
			t.Fatalf("%q is read of %s: %v", p[:n], from, err)
		}
		info := oob[:oobn]
		if f.server.Is4() {
			message := new(ipv4.ControlMessage)
			if err := message.Parse(info); err != nil || !message.Dst.Equal(f.dialed.AsSlice()) {
				t.Errorf("the client dialed %s, and the message says %s: %v", f.dialed, message.Dst, err)
			}
			info = (&ipv4.ControlMessage{Src: message.Dst}).Marshal() // as quic-go does
		} else {
			message := new(ipv6.ControlMessage)
			if err := message.Parse(info); err != nil || !message.Dst.Equal(f.dialed.AsSlice()) {
				t.Errorf("the client dialed %s, and the message says %s: %v", f.dialed, message.Dst, err)
			}
		}
		segments := append(bytes.Clone(info), segmentMessage(4)...)
		if _, _, err := pc.WriteMsgUDP([]byte("pongpong"), segments, from); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if n, _, err := peer.ReadFrom(p); err != nil || string(p[:n]) != "pong" {
				t.Errorf("the client reads %q: %v", p[:n], err)
			}
		}
	})
}

// segmentMessage returns the control message that asks for segments of so many bytes.
func segmentMessage(size uint16) []byte {
	m := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&m[0]))
	header.Level, header.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(m[unix.CmsgLen(0):], size)
	return m
}
