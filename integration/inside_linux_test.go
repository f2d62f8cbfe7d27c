package integration_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/mdlayher/packet"

	"github.com/caddy-vnic/caddy-vnic/integration"
)

// inside is a server whose segment a is in an intruder's hands: he is root in it.
// Where segments have no namespaces of their own, that is root of the host.
type inside struct {
	*scene
	a, b    *integration.Host // where the processes of the segments are
	got     *recorder         // what segment b gets
	targets []target
}

// target is what the intruder tries to reach.
type target struct{ name, address string }

func newInside(t *testing.T, datapath string, apart bool) *inside {
	t.Helper()
	in := &inside{scene: newScene(t, integration.PaperOptions{Neighbours: 1}), got: &recorder{name: "b"}}
	in.ip(in.Server, "address add 192.168.1.3/24 dev nic0")
	in.ip(in.Server, "route add default via 192.168.1.1")
	config := frontCaddyfile{datapath: datapath, a: "ports tcp/80", b: "ports tcp/80", bridge: "lb_policy first a b", sites: groups}
	names := segmentNamespaces()
	if apart {
		config.a += "\nnetns " + names["a"]
		config.b += "\nnetns " + names["b"]
	}
	in.startFront("", config)
	in.a, in.b = in.Server, in.Server
	if apart {
		in.a, in.b = in.enter(names["a"]), in.enter(names["b"])
	}
	in.listen(in.a, "192.168.50.1:80", answerHTTP("a"))
	in.listen(in.b, "192.168.60.1:80", in.got.serve)
	for name, h := range map[string]*integration.Host{"PC1": in.PC1, "neighbour": in.Neighbours[0], "router": in.Router} {
		in.listen(h, ":80", answerHTTP(name))
	}
	in.listen(in.Server, "192.168.1.3:80", answerHTTP("the host"))
	segments := in.status().Segments
	in.targets = []target{
		{"segment b's address", "192.168.60.1:80"},
		{"the alias under which the front sees b", segments["front"].Peers["b"].String() + ":80"},
		{"the alias under which b sees the front", segments["b"].Peers["front"].String() + ":80"},
		{"the alias under which a sees the front", segments["a"].Peers["front"].String() + ":80"},
		{"the front's address", "192.168.40.1:80"},
		{"the pseudo address", "192.168.1.2:80"},
		{"the host's own address", "192.168.1.3:80"},
		{"Caddy's admin API", "127.0.0.1:2019"},
		{"a host on the NIC's network", "192.168.1.11:80"},
		{"a host beyond the router", "192.168.10.2:80"},
		{"the router by its own address", "192.168.1.1:80"},
		{"the router by its alias (egress gateway)", "192.168.50.2:80"},
	}
	return in
}

// reaches tells whether a process in segment a gets to a target, from no address
// in particular, from the segment's, or by its device.
func (in *inside) reaches(at target) bool {
	for _, from := range [][]string{nil, {"--interface", "192.168.50.1"}, {"--interface", "vnic-A"}} {
		args := append([]string{"-sS", "--max-time", "1", "-H", "Host: www.example.com"}, from...)
		if _, err := in.a.Run(in.t.Context(), "curl", append(args, "http://"+at.address+"/test2/")...); err == nil {
			return true
		}
	}
	return false
}

// From inside segment a, another segment, the host and the network are reached by
// what the Caddyfile grants and by nothing else, where the segments have namespaces
// of their own. Where they do not, all processes of the host are one trust domain,
// and what is kept apart is packets.
func TestInsideASegment(t *testing.T) {
	onEachDataPath(t, func(t *testing.T, datapath string) {
		var connections, frames [][]string
		for _, apart := range []bool{false, true} {
			t.Run(map[bool]string{false: "one namespace", true: "namespaces of their own"}[apart], func(t *testing.T) {
				in := newInside(t, datapath, apart)
				connections = addColumn(connections, in.tryConnections())
				frames = addColumn(frames, in.tryFrames())
				in.wantServed()
			})
		}
		wantTable(t, "Connections from inside a segment", connections)
		wantTable(t, "Frames from inside a segment", frames)
	})
}

// addColumn adds what came of each attempt to a table.
func addColumn(table, results [][]string) [][]string {
	if table == nil {
		return results
	}
	for i := range table {
		table[i] = append(table[i], results[i][1])
	}
	return table
}

// tryConnections tries all that a process can: from an address, by a device, and
// with routes of its own.
func (in *inside) tryConnections() (results [][]string) {
	in.t.Helper()
	if in.a != in.Server {
		for _, route := range []string{"default via 192.168.50.2 dev vnic-A", "192.168.60.0/24 dev vnic-A", "192.168.40.0/24 dev vnic-A"} {
			in.ip(in.a, "route add "+route)
		}
	}
	results = make([][]string, len(in.targets))
	var tries sync.WaitGroup
	for i, at := range in.targets {
		tries.Go(func() {
			results[i] = []string{at.name, "not reached"}
			if in.reaches(at) {
				results[i][1] = "reached"
			}
		})
	}
	tries.Wait()
	if requests, wrong := in.got.take(); in.a != in.Server && len(requests)+len(wrong) > 0 {
		in.t.Errorf("segment b got %v and %q", requests, wrong)
	}
	return results
}

// wantServed checks that the segments still serve whom they are to serve.
func (in *inside) wantServed() {
	in.t.Helper()
	for path, segment := range map[string]string{"test1": "a", "test2": "b"} {
		if got, err := getAs(in.PC1.HTTPClient(), "www.example.com", "http://192.168.1.2/"+path+"/"); err != nil || got != segment {
			in.t.Errorf("PC1 gets %q (%v) of segment %s", got, err, segment)
		}
	}
}

// tryFrames puts frames on segment a's VNIC that no kernel would, each with a mark
// of its own, and looks where that comes out.
func (in *inside) tryFrames() (results [][]string) {
	in.t.Helper()
	conn, mac, err := rawSocket(in.a, "vnic-A")
	if err != nil {
		in.t.Fatal(err)
	}
	defer conn.Close()
	devices := []string{"vnic-B", "vnic-F", "nic0"}
	capture := in.capture(in.Server, devices...)
	forged := in.forgedFrames(mac)
	for i, f := range forged {
		for _, data := range f.frames(mark(i)) {
			if _, err := conn.WriteTo(data, &packet.Addr{HardwareAddr: data[:6]}); err != nil {
				in.t.Fatalf("%s: %v", f.name, err)
			}
		}
	}
	in.fence(conn, mac, capture)
	for i, f := range forged {
		result := "nothing"
		for _, frame := range in.frames(capture) {
			if bytes.Contains(frame.Data, mark(i)) {
				result = "came out of " + devices[frame.Interface]
			}
		}
		results = append(results, []string{f.name, result})
	}
	return results
}

// mark is what the payload of a forged frame has.
func mark(i int) []byte { return fmt.Appendf(nil, "forged<%d>", i) }

// fence sends what may leave, an echo request to the gateway, and waits until it
// has left: so has then all that was sent before it.
func (in *inside) fence(conn *packet.Conn, mac net.HardwareAddr, capture *integration.Capture) {
	in.t.Helper()
	last := []byte("the last one")
	data := ipFrame(mac, integration.RouterMAC, "192.168.50.1", "192.168.50.2", layers.IPProtocolICMPv4,
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7}, gopacket.Payload(last))
	if _, err := conn.WriteTo(data, &packet.Addr{HardwareAddr: data[:6]}); err != nil {
		in.t.Fatal(err)
	}
	in.waitFor("what may leave the segment", func() bool {
		return slices.ContainsFunc(in.frames(capture), func(f integration.Frame) bool { return bytes.Contains(f.Data, last) })
	})
}

// forged is one way to forge frames; each carries a mark.
type forged struct {
	name   string
	frames func(mark []byte) [][]byte
}

func (in *inside) forgedFrames(mac net.HardwareAddr) []forged {
	segments := in.status().Segments
	macOf := func(segment string) net.HardwareAddr { m := segments[segment].MAC; return m[:] }
	alias := func(segment, peer string) string { return segments[segment].Peers[peer].String() }
	// to is a datagram, a SYN, a SYN-ACK, a TCP segment of no connection and an
	// echo request.
	to := func(dstMAC net.HardwareAddr, src, dst string) func([]byte) [][]byte {
		return func(mark []byte) [][]byte { return packets(mac, dstMAC, src, dst, mark) }
	}
	return []forged{
		{"to segment b's address and MAC", to(macOf("b"), "192.168.50.1", "192.168.60.1")},
		{"to the alias under which the front sees b", to(macOf("b"), "192.168.50.1", alias("front", "b"))},
		{"to the alias under which a sees the front", to(macOf("front"), "192.168.50.1", alias("a", "front"))},
		{"to the front's address and MAC", to(macOf("front"), "192.168.50.1", "192.168.40.1")},
		{"to the pseudo address and the NIC's MAC", to(integration.NICMAC, "192.168.50.1", "192.168.1.2")},
		{"to a host on the NIC's network", to(integration.RouterMAC, "192.168.50.1", "192.168.1.11")},
		{"as segment b, to the gateway's alias", to(integration.RouterMAC, "192.168.60.1", "192.168.60.2")},
		{"as segment b, to the front", to(macOf("front"), "192.168.60.1", alias("b", "front"))},
		{"as the front, to segment b", to(macOf("b"), "192.168.40.1", alias("front", "b"))},
		{"as the front's alias, to segment b", to(macOf("b"), alias("b", "front"), "192.168.60.1")},
		{"as the pseudo address, to the router", to(integration.RouterMAC, "192.168.1.2", "192.168.1.1")},
		{"as the host's own address, to the router", to(integration.RouterMAC, "192.168.1.3", "192.168.1.1")},
		{"as a client outside, to the front", to(macOf("front"), "192.168.10.2", "192.168.40.1")},
		{"as another host of segment a, to the gateway's alias", to(integration.RouterMAC, "192.168.50.9", "192.168.50.2")},
		{"broadcast and multicast", func(mark []byte) [][]byte {
			return append(packets(mac, layers.EthernetBroadcast, "192.168.50.1", "255.255.255.255", mark),
				packets(mac, net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, "192.168.50.1", "224.0.0.1", mark)...)
		}},
		{"an ICMP error about the front's connection to b", func(mark []byte) [][]byte {
			quoted := packets(macOf("front"), mac, "192.168.40.1", alias("front", "b"), mark)[1][14:]
			return [][]byte{ipFrame(mac, macOf("front"), "192.168.50.1", alias("a", "front"), layers.IPProtocolICMPv4,
				&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)}, gopacket.Payload(quoted))}
		}},
		{"ARP in the name of the front's alias", func(mark []byte) [][]byte {
			return [][]byte{append(arpRequest(mac, netip.MustParseAddr(alias("b", "front")), netip.MustParseAddr("192.168.60.1")), mark...)}
		}},
		{"IPv6", func(mark []byte) [][]byte {
			return [][]byte{serialize(
				&layers.Ethernet{SrcMAC: mac, DstMAC: macOf("b"), EthernetType: layers.EthernetTypeIPv6},
				&layers.IPv6{Version: 6, NextHeader: layers.IPProtocolNoNextHeader, HopLimit: 64, SrcIP: net.ParseIP("fe80::1"), DstIP: net.ParseIP("ff02::1")},
				gopacket.Payload(mark))}
		}},
		{"a VLAN tag before it", func(mark []byte) [][]byte {
			return [][]byte{serialize(
				&layers.Ethernet{SrcMAC: mac, DstMAC: macOf("b"), EthernetType: layers.EthernetTypeDot1Q},
				&layers.Dot1Q{VLANIdentifier: 1, Type: layers.EthernetTypeIPv4}, gopacket.Payload(packets(mac, macOf("b"), "192.168.50.1", "192.168.60.1", mark)[0][14:]))}
		}},
	}
}

// packets are a datagram, a TCP SYN, an answer to one, a segment of no connection,
// and an echo request.
func packets(srcMAC, dstMAC net.HardwareAddr, src, dst string, payload []byte) (frames [][]byte) {
	from, to := net.ParseIP(src).To4(), net.ParseIP(dst).To4()
	network := &layers.IPv4{SrcIP: from, DstIP: to, Protocol: layers.IPProtocolTCP}
	udp := &layers.UDP{SrcPort: 80, DstPort: 80}
	udp.SetNetworkLayerForChecksum(network)
	frames = append(frames, ipFrame(srcMAC, dstMAC, src, dst, layers.IPProtocolUDP, udp, gopacket.Payload(payload)))
	for _, tcp := range []*layers.TCP{{SYN: true}, {SYN: true, ACK: true}, {ACK: true, PSH: true}} {
		tcp.SrcPort, tcp.DstPort, tcp.Window = 80, 80, 1000
		tcp.SetNetworkLayerForChecksum(network)
		frames = append(frames, ipFrame(srcMAC, dstMAC, src, dst, layers.IPProtocolTCP, tcp, gopacket.Payload(payload)))
	}
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 80}
	return append(frames, ipFrame(srcMAC, dstMAC, src, dst, layers.IPProtocolICMPv4, echo, gopacket.Payload(payload)))
}

// ipFrame is an IPv4 packet in an Ethernet frame.
func ipFrame(srcMAC, dstMAC net.HardwareAddr, src, dst string, protocol layers.IPProtocol, content ...gopacket.SerializableLayer) []byte {
	return serialize(append([]gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: srcMAC, DstMAC: dstMAC, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()},
	}, content...)...)
}
