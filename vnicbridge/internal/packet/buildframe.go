package packet

import (
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// BuildFrame returns a new Ethernet frame with the given layers. It computes lengths and
// checksums. It is too slow for packets in transit. It panics if a layer cannot be
// serialized, because that is a bug.
func BuildFrame(src, dst config.MAC, etherType layers.EthernetType, payload ...gopacket.SerializableLayer) Frame {
	buf := gopacket.NewSerializeBuffer()
	all := append([]gopacket.SerializableLayer{&layers.Ethernet{
		SrcMAC: net.HardwareAddr(src[:]), DstMAC: net.HardwareAddr(dst[:]), EthernetType: etherType,
	}}, payload...)
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, all...); err != nil {
		panic("packet: cannot serialize a frame: " + err.Error())
	}
	return Frame{Data: append(make([]byte, VNetHeaderLen), buf.Bytes()...)}
}

// IPLayer is the IP header of a packet that is built.
type IPLayer interface {
	gopacket.NetworkLayer
	gopacket.SerializableLayer
}

// IPHeader returns the IP header of a packet that the bridge itself sends. src and dst are of
// one family. [BuildPacket] sets its length and checksum.
func IPHeader(src, dst Addr, proto config.Protocol) IPLayer {
	if !dst.IsIPv6() {
		return &layers.IPv4{
			Version: 4, TTL: ownHopLimit, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocol(proto),
			SrcIP: src.V4(), DstIP: dst.V4(),
		}
	}
	if proto == config.ICMP {
		proto = nextICMPv6
	}
	return &layers.IPv6{
		Version: 6, HopLimit: ownHopLimit, NextHeader: layers.IPProtocol(proto),
		SrcIP: src[:], DstIP: dst[:],
	}
}

// ownHopLimit is the hop limit, or TTL, of packets that the bridge itself sends.
const ownHopLimit = 64

// BuildPacket is BuildFrame for an IP packet.
func BuildPacket(src, dst config.MAC, ip IPLayer, payload ...gopacket.SerializableLayer) Frame {
	etherType := layers.EthernetTypeIPv4
	if ip.LayerType() == layers.LayerTypeIPv6 {
		etherType = layers.EthernetTypeIPv6
	}
	return BuildFrame(src, dst, etherType, append([]gopacket.SerializableLayer{ip}, payload...)...)
}
