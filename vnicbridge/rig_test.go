package vnicbridge

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// The paper's addresses (Fig-12 to 15).
var (
	routerMAC = mustMAC("00:24:a5:57:e6:e8")
	nicMAC    = mustMAC("b0:c7:45:f5:de:2d")
	vnicAMAC  = mustMAC("50:01:02:03:04:05")
	vnicBMAC  = mustMAC("52:01:02:03:04:06")
	hostMAC   = mustMAC("00:11:22:33:44:55") // another host on the NIC's link
)

const (
	router    = "192.168.1.1"
	pseudo    = "192.168.1.2"
	otherHost = "192.168.1.77"
	farHost   = "203.0.113.9" // beyond the router
	serverA   = "192.168.50.1"
	routerOnA = "192.168.50.2"
	serverB   = "192.168.60.1"
	routerOnB = "192.168.60.2"
)

func mustMAC(s string) config.MAC {
	mac, err := config.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return mac
}

// paperConfig is the paper's system: the policy gives segment a.
func paperConfig() *config.Config {
	return &config.Config{
		Segments: map[string]*config.Segment{
			"a": {Interface: "vnic-A", Addresses: prefixes(serverA + "/24"), MAC: vnicAMAC, Ports: []config.PortRange{config.AnyPort}},
			"b": {Interface: "vnic-B", Addresses: prefixes(serverB + "/24"), MAC: vnicBMAC, Ports: []config.PortRange{config.AnyPort}},
		},
		Bridges: map[string]*config.Bridge{
			"lan": {
				NIC: "nic0", Addresses: prefixes(pseudo + "/24"), Gateways: []netip.Addr{netip.MustParseAddr(router)},
				LBPolicy: &config.Policy{Policy: config.PolicyFirst, Segments: []string{"a", "b"}},
			},
		},
	}
}

func prefixes(texts ...string) (ps []netip.Prefix) {
	for _, t := range texts {
		ps = append(ps, netip.MustParsePrefix(t))
	}
	return ps
}

// onEachDataPath runs a conformance test on each data path.
func onEachDataPath(t *testing.T, cfg *config.Config, test func(t *testing.T, r *rig)) {
	bubble(t, func(t *testing.T) { test(t, newRig(t, cfg)) })
}

// bubble runs a test on each data path where time passes as fast as it can.
func bubble(t *testing.T, test func(t *testing.T)) {
	for _, path := range testedPaths {
		t.Run(path, func(t *testing.T) { synctest.Test(t, test) })
	}
}

// testedPaths are those that can be tested here: BPF programs take Linux and root.
var testedPaths = []string{"userspace"}

// inKernel lets the programs of the kernel data path carry a frame that arrives at
// a device. False: there is none, or it leaves the frame to userspace.
var inKernel = func(*rig, *memoryDevice, packet.Frame) bool { return false }

// refillARP makes the budgets of ARP whole, which go by the kernel's clock and not by a
// test's.
var refillARP = func(*rig) {}

// holdSYNs keeps the rate of SYNs used up for a second of the kernel's clock: a pause of the machine
// would let another SYN be kept.
var holdSYNs = func(*rig) {}

// rig is a whole data plane on a machine whose devices are in memory: the frames
// that a test puts in are those that a kernel would give, offload header and all.
type rig struct {
	t       *testing.T
	plane   *Plane
	machine *memoryMachine

	// The longest time that the programs' clock, which is the machine's, went on for beyond a
	// test's while a program had a frame.
	longestRun time.Duration

	// Frames from a NIC that a BPF program found to be none of ours: a packet socket's
	// filter does not let them in either.
	leftToHost uint64
}

func newRig(t *testing.T, cfg *config.Config) *rig {
	t.Helper()
	r := newEmptyRig(t)
	if err := r.plane.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if got, want := r.plane.Status().Datapath == config.DatapathKernel, r.machine.kernel; got != want {
		t.Fatalf("the kernel data path is in use: %v, want %v (%s)", got, want, r.plane.Status().DatapathReason)
	}
	r.settle()
	return r
}

func newEmptyRig(t *testing.T) *rig {
	m := &memoryMachine{kernel: strings.HasSuffix(t.Name(), "/kernel"), devices: make(map[string]*memoryDevice), hints: make(chan struct{}, 1),
		lines: make(chan string), tracked: make(map[string]bool)}
	r := &rig{t: t, machine: m}
	r.plane = New(Options{
		Log:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		machine: func() (machine, error) { return m, nil },
	})
	t.Cleanup(func() {
		if err := r.plane.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// settle lets the start be over: the gateway has answered, nothing is in flight.
func (r *rig) settle() {
	synctest.Wait()
	r.put("nic0", arp(false, routerMAC, router, nicMAC, pseudo))
	for _, d := range r.machine.devices {
		d.take()
	}
}

// put lets a frame arrive at a device, and everything happen that follows.
func (r *rig) put(device string, frames ...[]byte) {
	r.t.Helper()
	d := r.machine.devices[device]
	if d == nil {
		r.t.Fatalf("no device %s", device)
	}
	for _, raw := range frames {
		if f := asFrame(raw); !inKernel(r, d, f) {
			d.in <- f
			synctest.Wait() // frames that leave by another way must not overtake it
		}
	}
	synctest.Wait()
}

// putSuper lets a frame arrive that segmentation offload is to cut into packets of so
// much payload.
func (r *rig) putSuper(device string, raw []byte, gsoType byte, gsoSize int) {
	r.t.Helper()
	f, d := asFrame(raw), r.machine.devices[device]
	f.Data[1] = gsoType
	binary.NativeEndian.PutUint16(f.Data[4:], uint16(gsoSize))
	if !inKernel(r, d, f) {
		d.in <- f
	}
	synctest.Wait()
}

// got takes what was sent by a device since the last time.
func (r *rig) got(device string) [][]byte { return r.machine.devices[device].take() }

// nicChanges tells the plane that the NIC is in another state.
func (r *rig) nicChanges(state iface.LinkState) {
	d := r.machine.device("nic0")
	state.Name = "nic0"
	d.mu.Lock()
	d.state = state
	d.mu.Unlock()
	r.machine.hints <- struct{}{}
	time.Sleep(2 * maintainInterval)
}

// one takes the one frame that was sent by a device.
func (r *rig) one(device string) []byte {
	r.t.Helper()
	frames := r.got(device)
	if len(frames) != 1 {
		r.t.Fatalf("%s sent %d frames, want 1", device, len(frames))
	}
	return frames[0]
}

// silent checks that nothing was sent by the devices.
func (r *rig) silent(devices ...string) {
	r.t.Helper()
	for _, d := range devices {
		for _, f := range r.got(d) {
			r.t.Errorf("%s sent %v", d, decode(f))
		}
	}
}

func (r *rig) drops(device, reason string) uint64 {
	s := r.plane.Status()
	for _, b := range s.Bridges {
		if b.NIC == device {
			return b.Drops[reason]
		}
	}
	for _, seg := range s.Segments {
		if seg.Interface == device {
			return seg.Drops[reason]
		}
	}
	return 0
}

// asFrame is a frame as a device reads it, without offloads.
func asFrame(raw []byte) packet.Frame {
	return packet.Frame{Data: append(make([]byte, packet.VNetHeaderLen), raw...)}
}

// ends are the two ends of a packet, as a test writes them.
type ends struct {
	srcMAC, dstMAC config.MAC
	src, dst       string
	sport, dport   uint16
}

// fromRouter are the ends of a packet that the router forwards to the pseudo
// address.
func fromRouter(src string, sport, dport uint16) ends {
	return ends{routerMAC, nicMAC, src, pseudo, sport, dport}
}

// fromA are the ends of a packet that segment a sends to an alias.
func fromA(alias string, sport, dport uint16) ends {
	return ends{vnicAMAC, routerMAC, serverA, alias, sport, dport}
}

// client is the address of one of many hosts beyond the router.
func client(i int) string { return fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250) }

func (e ends) ip(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, TTL: 63, TOS: 0x2, Id: 0x2c93, Flags: layers.IPv4DontFragment, Protocol: proto,
		SrcIP: net.ParseIP(e.src), DstIP: net.ParseIP(e.dst),
	}
}

// header is the IP header of a packet of the ends' family.
func (e ends) header(proto config.Protocol) packet.IPLayer {
	if strings.Contains(e.dst, ":") {
		return e.ipv6(proto)
	}
	return e.ip(layers.IPProtocol(proto))
}

func (e ends) build(ip packet.IPLayer, rest ...gopacket.SerializableLayer) []byte {
	f := packet.BuildPacket(e.srcMAC, e.dstMAC, ip, rest...)
	return f.Eth()
}

// tcp builds a segment as it would be after a SYN with the sequence number 1000 from
// either side.
func (e ends) tcp(flags string, payload string) []byte {
	seq := uint32(1001)
	if strings.Contains(flags, "S") {
		seq = 1000
	}
	return e.segment(flags, seq, 1001, payload)
}

// segment builds a TCP segment with any numbers.
func (e ends) segment(flags string, seq, ack uint32, payload string) []byte {
	ip := e.header(config.TCP)
	tcp := &layers.TCP{SrcPort: layers.TCPPort(e.sport), DstPort: layers.TCPPort(e.dport), Seq: seq, Ack: ack, Window: 512}
	for _, c := range flags {
		switch c {
		case 'S':
			tcp.SYN = true
		case 'A':
			tcp.ACK = true
		case 'F':
			tcp.FIN = true
		case 'R':
			tcp.RST = true
		}
	}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	return e.build(ip, tcp, gopacket.Payload(payload))
}

func (e ends) udp(payload string) []byte {
	ip := e.header(config.UDP)
	udp := &layers.UDP{SrcPort: layers.UDPPort(e.sport), DstPort: layers.UDPPort(e.dport)}
	_ = udp.SetNetworkLayerForChecksum(ip)
	return e.build(ip, udp, gopacket.Payload(payload))
}

// echo builds an echo request (sport is the identifier) or reply (dport is).
func (e ends) echo(payload string) []byte {
	if strings.Contains(e.dst, ":") {
		return e.echoIPv6(payload)
	}
	kind := uint8(packet.ICMPEcho)
	if e.sport == 0 {
		kind = packet.ICMPEchoReply
	}
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: e.sport + e.dport, Seq: 95}
	return e.build(e.ip(layers.IPProtocolICMPv4), icmp, gopacket.Payload(payload))
}

func arp(request bool, senderMAC config.MAC, sender string, targetMAC config.MAC, target string) []byte {
	m := link.ARPMessage{
		Request: request, SenderMAC: senderMAC, Sender: packet.AddrOf(netip.MustParseAddr(sender)),
		TargetMAC: targetMAC, Target: packet.AddrOf(netip.MustParseAddr(target)),
	}
	to := targetMAC
	if to.IsZero() {
		to = config.BroadcastMAC
	}
	f := m.Frame(to)
	return f.Eth()
}

// decoded is what a test looks at in a frame.
type decoded struct {
	ends
	proto    config.Protocol
	flags    uint8
	ttl, tos uint8
	ipID     uint16
	icmp     uint8 // type
	code     uint8
	valid    bool // all the checksums
	payload  string

	// Of IPv6 only.
	label   uint32
	headers string // the extension headers, as they are
	value   uint32 // of an ICMPv6 error: its MTU or pointer
}

// decode reads a frame without the code under test.
func decode(raw []byte) decoded {
	pkt := gopacket.NewPacket(raw, layers.LayerTypeEthernet, gopacket.Default)
	var d decoded
	eth := pkt.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	d.srcMAC, d.dstMAC = config.MAC(eth.SrcMAC), config.MAC(eth.DstMAC)
	if eth.EthernetType == layers.EthernetTypeIPv6 {
		d.readIPv6(raw[packet.EthHeaderLen:])
		return d
	}
	ip, ok := pkt.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok {
		return d
	}
	d.src, d.dst = ip.SrcIP.String(), ip.DstIP.String()
	d.proto, d.ttl, d.tos, d.ipID = config.Protocol(ip.Protocol), ip.TTL, ip.TOS, ip.Id
	body := ip.Payload
	pseudoHeader := slices.Concat(ip.SrcIP.To4(), ip.DstIP.To4(), []byte{0, byte(ip.Protocol)}, binary.BigEndian.AppendUint16(nil, uint16(len(body))))
	d.valid = plainSum(ip.Contents) == 0xffff
	switch l := pkt.Layer(pkt.Layers()[2].LayerType()).(type) {
	case *layers.TCP:
		d.sport, d.dport, d.flags = uint16(l.SrcPort), uint16(l.DstPort), body[13]
		d.valid = d.valid && plainSum(append(pseudoHeader, body...)) == 0xffff
		d.payload = string(l.Payload)
	case *layers.UDP:
		d.sport, d.dport = uint16(l.SrcPort), uint16(l.DstPort)
		d.valid = d.valid && (l.Checksum == 0 || plainSum(append(pseudoHeader, body...)) == 0xffff)
		d.payload = string(l.Payload)
	case *layers.ICMPv4:
		d.icmp, d.code = l.TypeCode.Type(), l.TypeCode.Code()
		if d.icmp == packet.ICMPEcho {
			d.sport = l.Id
		} else {
			d.dport = l.Id
		}
		d.valid = d.valid && plainSum(body) == 0xffff
		d.payload = string(l.Payload)
	}
	return d
}

// plainSum is RFC 1071 as written there: 0xffff over data with a valid checksum.
func plainSum(data []byte) uint16 {
	var sum uint32
	for i, b := range data {
		if i%2 == 0 {
			sum += uint32(b) << 8
		} else {
			sum += uint32(b)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func mustAddr(s string) packet.Addr { return packet.AddrOf(netip.MustParseAddr(s)) }
