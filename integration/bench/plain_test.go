package main

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// TestHopRewrites compares what the plain bridge makes of a packet with what a stack with the
// other addresses would have sent, including checksums.
func TestHopRewrites(t *testing.T) {
	addr := netip.MustParseAddr
	oldMAC, newMAC := bytes.Repeat([]byte{2}, 6), bytes.Repeat([]byte{4}, 6)
	h := newHop(newMAC, oldMAC, addr("192.168.50.2"), addr("192.168.50.1"))
	for name, transport := range map[string]func(*layers.IPv4) gopacket.SerializableLayer{
		"tcp": func(ip *layers.IPv4) gopacket.SerializableLayer {
			tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 0xfffefffe, ACK: true, Window: 500}
			ip.Protocol = layers.IPProtocolTCP
			return withChecksum(t, tcp, tcp.SetNetworkLayerForChecksum(ip))
		},
		"udp": func(ip *layers.IPv4) gopacket.SerializableLayer {
			udp := &layers.UDP{SrcPort: 40000, DstPort: 7}
			ip.Protocol = layers.IPProtocolUDP
			return withChecksum(t, udp, udp.SetNetworkLayerForChecksum(ip))
		},
	} {
		build := func(dst, src net.HardwareAddr, from, to string) []byte {
			ip := &layers.IPv4{Version: 4, TTL: 64, Id: 7, SrcIP: net.ParseIP(from).To4(), DstIP: net.ParseIP(to).To4()}
			l4 := transport(ip)
			out := gopacket.NewSerializeBuffer()
			err := gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
				&layers.Ethernet{DstMAC: dst, SrcMAC: src, EthernetType: layers.EthernetTypeIPv4}, ip, l4, gopacket.Payload("some text"))
			if err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}
		frame := build(oldMAC, newMAC, "192.168.1.1", "192.168.1.2")
		want := build(newMAC, oldMAC, "192.168.50.2", "192.168.50.1")
		if !h.rewrite(frame) || !bytes.Equal(frame, want) {
			t.Errorf("%s:\n% x, want\n% x", name, frame, want)
		}
		for n := range 14 + 20 + 8 {
			if frame := bytes.Clone(frame[:n]); h.rewrite(frame) {
				t.Errorf("%s: a frame cut off after %d bytes was rewritten", name, n)
			}
		}
	}
}

func withChecksum(t *testing.T, l gopacket.SerializableLayer, err error) gopacket.SerializableLayer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return l
}
