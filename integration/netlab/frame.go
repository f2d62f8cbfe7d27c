package netlab

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Frame is a captured Ethernet frame.
type Frame struct {
	Interface int  // which device of the capture, from 0
	Outgoing  bool // the host sent it
	Time      time.Time
	Data      []byte
}

// Echo is an ICMP echo request or reply in an Ethernet frame, taken apart.
type Echo struct {
	Frame
	Request        bool
	EthSrc, EthDst net.HardwareAddr
	Src, Dst       netip.Addr
	TTL            uint8  // of IPv6, the hop limit
	IPID           uint16 // of IPv4
	ID, Seq        uint16
	Payload        []byte
	ChecksumsValid bool // of ICMP message, and of IPv4's header
}

// ParseEcho takes a frame apart; ok is false when it is no echo, or a fragment.
func ParseEcho(f Frame) (e Echo, ok bool) {
	if e, ok = parseEchoIPv6(f); ok {
		return e, true
	}
	return parseEchoIPv4(f)
}

func parseEchoIPv4(f Frame) (e Echo, ok bool) {
	var eth layers.Ethernet
	var ip layers.IPv4
	var icmp layers.ICMPv4
	parser := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &eth, &ip, &icmp)
	parser.IgnoreUnsupported = true
	var decoded []gopacket.LayerType
	if err := parser.DecodeLayers(f.Data, &decoded); err != nil || len(decoded) != 3 {
		return Echo{}, false
	}
	kind := icmp.TypeCode.Type()
	if kind != layers.ICMPv4TypeEchoRequest && kind != layers.ICMPv4TypeEchoReply {
		return Echo{}, false
	}
	src, _ := netip.AddrFromSlice(ip.SrcIP)
	dst, _ := netip.AddrFromSlice(ip.DstIP)
	return Echo{
		Frame:   f,
		Request: kind == layers.ICMPv4TypeEchoRequest,
		EthSrc:  eth.SrcMAC, EthDst: eth.DstMAC,
		Src: src, Dst: dst,
		TTL: ip.TTL, IPID: ip.Id,
		ID: icmp.Id, Seq: icmp.Seq,
		Payload:        icmp.Payload,
		ChecksumsValid: checksumValid(ip.Contents) && checksumValid(ip.Payload),
	}, true
}

func parseEchoIPv6(f Frame) (e Echo, ok bool) {
	var eth layers.Ethernet
	var ip layers.IPv6
	var icmp layers.ICMPv6
	var echo layers.ICMPv6Echo
	parser := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &eth, &ip, &icmp, &echo)
	parser.IgnoreUnsupported = true
	var decoded []gopacket.LayerType
	if err := parser.DecodeLayers(f.Data, &decoded); err != nil || len(decoded) != 4 {
		return Echo{}, false
	}
	src, _ := netip.AddrFromSlice(ip.SrcIP)
	dst, _ := netip.AddrFromSlice(ip.DstIP)
	pseudo := slices.Concat(ip.SrcIP, ip.DstIP, []byte{0, 0, byte(len(ip.Payload) >> 8), byte(len(ip.Payload)), 0, 0, 0, byte(layers.IPProtocolICMPv6)})
	return Echo{
		Frame:   f,
		Request: icmp.TypeCode.Type() == layers.ICMPv6TypeEchoRequest,
		EthSrc:  eth.SrcMAC, EthDst: eth.DstMAC,
		Src: src, Dst: dst,
		TTL: ip.HopLimit,
		ID:  echo.Identifier, Seq: echo.SeqNumber,
		Payload:        icmp.Payload[4:],
		ChecksumsValid: checksumValid(slices.Concat(pseudo, ip.Payload)),
	}, true
}

// checksumValid tells whether the Internet checksum in b is right: the ones'
// complement sum over all of it, itself included, is then -0 (RFC 1071).
func checksumValid(b []byte) bool {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// writePcapng writes frames with one interface for each device.
func writePcapng(w io.Writer, devices []string, frames []Frame) error {
	ethernet := func(device string) pcapgo.NgInterface {
		return pcapgo.NgInterface{Name: device, LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}
	}
	options := pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "caddy vnic lab"}}
	ng, err := pcapgo.NewNgWriterInterface(w, ethernet(devices[0]), options)
	if err != nil {
		return err
	}
	for _, device := range devices[1:] {
		if _, err := ng.AddInterface(ethernet(device)); err != nil {
			return err
		}
	}
	for _, f := range frames {
		err := ng.WritePacket(gopacket.CaptureInfo{
			Timestamp:      f.Time,
			CaptureLength:  len(f.Data),
			Length:         len(f.Data),
			InterfaceIndex: f.Interface,
		}, f.Data)
		if err != nil {
			return errors.Join(err, ng.Flush())
		}
	}
	return ng.Flush()
}
