package vnicbridge

import (
	"errors"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// arpMessage is an ARP packet for IPv4 over Ethernet (RFC 826).
type arpMessage struct {
	request              bool
	senderMAC, targetMAC MAC
	sender, target       addr
}

// arpKind is what an ARP message is to us: enum arp_kind of bpf/types.h. Each kind has its
// own budget, so that a flood of one kind keeps out no other.
type arpKind uint32

const (
	arpAnybody   arpKind = iota // about the pseudo address, from a host that we do not send to
	arpAnswer                   // to what we asked
	arpNeighbour                // from a host that we send to
	arpGateway                  // from the gateway
	arpKinds
)

// kindOf returns the kind of ARP that comes from a host. mac is where frames for the host
// go; if it is zero, no frames go there.
func kindOf(mac MAC, gateway bool) arpKind {
	switch {
	case gateway:
		return arpGateway
	case mac.IsZero():
		return arpAnybody
	default:
		return arpNeighbour
	}
}

// arpLen is the length of an ARP message for IPv4 over Ethernet.
const arpLen = 28

var errNotARP = errors.New("not ARP for IPv4 over Ethernet")

func parseARP(f *frame) (arpMessage, error) {
	body := f.eth()[ethHeaderLen:]
	// gopacket believes the address lengths in the message, beyond its end too.
	if len(body) < arpLen || body[4] != 6 || body[5] != 4 {
		return arpMessage{}, errNotARP
	}
	var l layers.ARP
	if err := l.DecodeFromBytes(body, gopacket.NilDecodeFeedback); err != nil {
		return arpMessage{}, err
	}
	if l.AddrType != layers.LinkTypeEthernet || l.Protocol != layers.EthernetTypeIPv4 ||
		l.Operation != layers.ARPRequest && l.Operation != layers.ARPReply {
		return arpMessage{}, errNotARP
	}
	return arpMessage{
		request:   l.Operation == layers.ARPRequest,
		senderMAC: MAC(l.SourceHwAddress), sender: addrFrom4(l.SourceProtAddress),
		targetMAC: MAC(l.DstHwAddress), target: addrFrom4(l.DstProtAddress),
	}, nil
}

// frame builds the Ethernet frame that carries the message to a MAC.
func (m arpMessage) frame(to MAC) frame {
	operation := uint16(layers.ARPReply)
	if m.request {
		operation = layers.ARPRequest
	}
	return buildFrame(m.senderMAC, to, layers.EthernetTypeARP, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
		HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: m.senderMAC[:], SourceProtAddress: m.sender.v4(),
		DstHwAddress: m.targetMAC[:], DstProtAddress: m.target.v4(),
	})
}
