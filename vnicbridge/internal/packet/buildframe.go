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
