package link

import (
	"errors"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// ARPMessage is an ARP packet for IPv4 over Ethernet (RFC 826).
type ARPMessage struct {
	Request              bool
	SenderMAC, TargetMAC config.MAC
	Sender, Target       packet.Addr
}

// arpLen is the length of an ARP message for IPv4 over Ethernet.
const arpLen = 28

var errNotARP = errors.New("not ARP for IPv4 over Ethernet")

// ParseARP parses a frame whose Ethernet type is ARP. It returns an error unless the message
// is a request or reply for IPv4 over Ethernet.
func ParseARP(f *packet.Frame) (ARPMessage, error) {
	body := f.Eth()[packet.EthHeaderLen:]
	// gopacket trusts the address lengths in the message, even beyond its end.
	if len(body) < arpLen || body[4] != 6 || body[5] != 4 {
		return ARPMessage{}, errNotARP
	}
	var l layers.ARP
	if err := l.DecodeFromBytes(body, gopacket.NilDecodeFeedback); err != nil {
		return ARPMessage{}, err
	}
	if l.AddrType != layers.LinkTypeEthernet || l.Protocol != layers.EthernetTypeIPv4 ||
		l.Operation != layers.ARPRequest && l.Operation != layers.ARPReply {
		return ARPMessage{}, errNotARP
	}
	return ARPMessage{
		Request:   l.Operation == layers.ARPRequest,
		SenderMAC: config.MAC(l.SourceHwAddress), Sender: packet.AddrFrom4(l.SourceProtAddress),
		TargetMAC: config.MAC(l.DstHwAddress), Target: packet.AddrFrom4(l.DstProtAddress),
	}, nil
}

// Frame returns an Ethernet frame that carries the message to a MAC.
func (m ARPMessage) Frame(to config.MAC) packet.Frame {
	operation := uint16(layers.ARPReply)
	if m.Request {
		operation = layers.ARPRequest
	}
	return packet.BuildFrame(m.SenderMAC, to, layers.EthernetTypeARP, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
		HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: m.SenderMAC[:], SourceProtAddress: m.Sender.V4(),
		DstHwAddress: m.TargetMAC[:], DstProtAddress: m.Target.V4(),
	})
}
