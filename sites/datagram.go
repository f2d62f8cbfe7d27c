package sites

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// quic-go reads and writes control messages if a socket supports them. From IP_PKTINFO or
// IPV6_PKTINFO each QUIC connection learns the address that its client dialed, as on a socket
// that is bound to no address. [packetConn] makes up this message.

// ReadBatch reads datagrams as [ipv4.PacketConn.ReadBatch] does, each with its real client and
// with the address that the client dialed.
func (c *packetConn) ReadBatch(messages []ipv4.Message, flags int) (n int, err error) {
	for {
		udp := c.current()
		var socket *udpSocket
		n, socket, err = udp.readBatch(messages, flags)
		if c.moved(udp, err) {
			continue
		}
		for i := range messages[:max(n, 0)] {
			c.readdress(&messages[i], socket.at.local)
		}
		return n, err
	}
}

// readdress replaces the addresses of a datagram by the client's ends. A client on this host
// has dialed local.
func (c *packetConn) readdress(m *ipv4.Message, local netip.AddrPort) {
	dialed := local
	if ends, ok := c.sockets.plane.Ends(c.at.Segment, config.UDP, local, addrPort(m.Addr)); ok {
		m.Addr, dialed = net.UDPAddrFromAddrPort(ends.Client), ends.Dialed
	}
	m.NN += putPacketInfo(m.OOB[m.NN:], dialed.Addr())
}

// ReadMsgUDP reads a datagram with its control messages.
func (c *packetConn) ReadMsgUDP(p, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	messages := []ipv4.Message{{Buffers: [][]byte{p}, OOB: oob}}
	if _, err := c.ReadBatch(messages, 0); err != nil {
		return 0, 0, 0, nil, err
	}
	m := messages[0]
	return m.N, m.NN, m.Flags, m.Addr.(*net.UDPAddr), nil
}

// WriteMsgUDP sends to a real client, from the address in IP_PKTINFO or IPV6_PKTINFO, which
// the client has dialed. If the kernel should segment the data (UDP_SEGMENT), WriteMsgUDP sends datagram by
// datagram instead, because not every kernel and NIC can segment.
func (c *packetConn) WriteMsgUDP(p, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	dialed, segment, rest, err := takeControl(oob)
	if err != nil {
		return 0, 0, err
	}
	ends := vnicbridge.Ends{Client: addrPort(to)}
	if dialed.IsValid() {
		ends.Dialed = netip.AddrPortFrom(dialed, c.at.Port)
	}
	socket, peer, err := c.peer(ends)
	if err != nil {
		return 0, 0, err
	}
	for {
		datagram := p[n:min(len(p), n+segment)]
		sent, _, err := socket.WriteMsgUDPAddrPort(datagram, rest, peer)
		n += sent
		if err != nil || n == len(p) {
			return n, len(oob), err
		}
	}
}
