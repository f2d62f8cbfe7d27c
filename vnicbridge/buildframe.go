package vnicbridge

import (
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// buildFrame serializes a frame of our own making. It computes lengths and checksums.
// It is too slow for packets that are only carried.
func buildFrame(src, dst MAC, etherType layers.EthernetType, payload ...gopacket.SerializableLayer) frame {
	buf := gopacket.NewSerializeBuffer()
	all := append([]gopacket.SerializableLayer{&layers.Ethernet{
		SrcMAC: net.HardwareAddr(src[:]), DstMAC: net.HardwareAddr(dst[:]), EthernetType: etherType,
	}}, payload...)
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, all...); err != nil {
		panic("vnicbridge: serializing layers of our own making: " + err.Error())
	}
	return frame{data: append(make([]byte, vnetHeaderLen), buf.Bytes()...)}
}
