package vnicbridge

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// FuzzDataPaths lets the same frames arrive at a bridge on the userspace data path
// and at one on the kernel's. After each frame both have sent the same bytes by the
// same devices, dropped the same for the same reasons, and have the same flows.
//
// An input is a configuration, by its number; a conversation, in steps of stepLen
// bytes; and a frame that its steps may use.
//
// Not compared is what is random by design (the policy of that name; other ports are
// drawn alike), and the choice of what must go when the table is full. Frames that a
// program leaves to the host are those that the filter of a packet socket leaves out.
func FuzzDataPaths(f *testing.F) {
	for i, c := range conversations() {
		for setup := range setups {
			if !detectsRaces || setup == i%len(setups) {
				f.Add(byte(setup), c, []byte{})
			}
		}
	}
	for i, raw := range framesOfIPv6() {
		f.Add(byte(i), steps(ofIPv6(handshake(0)), step{kind: doRaw}, step{kind: doRaw, who: 1}, step{kind: doRaw}), raw)
	}
	nobody := slices.Concat(make([]byte, 6), fromRouter(router, 4000, 80).udp("to no MAC")[6:])
	for i, raw := range append(hostileFrames(100), nobody) {
		f.Add(byte(i), steps(handshake(0), step{kind: doRaw}, step{kind: doRaw, who: 1}, step{kind: doRaw, who: 2}), raw)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 80 {
		script := make([]byte, 40*stepLen)
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		f.Add(byte(i), script, fromRouter(farHost, 4000, 80).udp("payload"))
	}
	configs := setupConfigs(f)
	w := newTwins(f, configs[len(configs)-1]) // whose flows need most memory
	f.Fuzz(func(t *testing.T, setup byte, script, raw []byte) {
		w.begin(t, configs[int(setup)%len(configs)])
		for s := range slices.Chunk(script[:min(len(script), 200*stepLen)], stepLen) {
			if len(s) == stepLen {
				w.play(readStep(s), raw)
			}
		}
	})
}

// setups change the configuration of everything, twinConfig.
var setups = [...]func(*config.Config){
	func(*config.Config) {},
	func(c *config.Config) { c.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin },
	func(c *config.Config) {
		c.Bridges["lan"].LBPolicy.Policy = config.PolicyWeightedRoundRobin
		c.Segments["a"].Weight = 3
	},
	func(c *config.Config) {
		c.Bridges["lan"].LBPolicy.Policy = config.PolicyLeastConn
		c.Segments["b"].Weight = 2
	},
	func(c *config.Config) { c.Bridges["lan"].LBPolicy.Policy = config.PolicyIPHash },
	func(c *config.Config) { c.Bridges["lan"].LBPolicy.Policy = config.PolicyFlowHash },
	func(c *config.Config) {
		c.Bridges["lan"].OnNoSegment = config.Drop
		c.Bridges["lan"].LBPolicy = nil
		c.Bridges["lan"].Steer = []config.Rule{
			{Segment: "a", Ports: []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.UDP, First: 50, Last: 60}}},
			{Segment: "b", Clients: prefixes("203.0.113.0/28", "10.20.0.0/16", "2001:db8:9::/125", "2001:db8:20::/48"), Protocols: []config.Protocol{config.TCP, config.ICMP}},
			{Segment: "front", Protocols: []config.Protocol{config.UDP}},
		}
		c.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.UDP, First: 53, Last: 53}}
		c.Segments["b"].Ports = []config.PortRange{{Protocol: config.TCP, First: 400, Last: 500}}
	},
	func(c *config.Config) {
		c.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin
		c.Segments["a"].Aliases = config.AddrRange{First: netip.MustParseAddr("192.168.50.2"), Last: netip.MustParseAddr("192.168.50.5")}
		c.Segments["a"].Egress = config.EgressAny
		c.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}}
	},
	func(c *config.Config) {
		c.Bridges["lan"].LBPolicy.Policy = config.PolicyIPHash
		c.Bridges["lan"].Steer = []config.Rule{
			{Segment: "b", Clients: prefixes("10.20.0.0/16", "2001:db8:20::/48")},
			{Segment: "a", Names: []string{"a.example"}},
			{LBPolicy: &config.Policy{Policy: config.PolicyFirst, Segments: []string{"b", "a"}}, Names: []string{"*.a.example"}},
		}
	},
}

// twinConfig has two bridges, and segments of all kinds.
func twinConfig() *config.Config {
	cfg := frontConfig()
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a", "b", "front"}
	cfg.Segments["b"].ClientIP = config.Preserve
	cfg.Segments["front"].Egress = config.EgressAny
	cfg.Segments["front"].Addresses = prefixes("192.168.40.1/24", "fd00:40::1/64")
	cfg.Bridges["wan"] = &config.Bridge{
		NIC: "nic1", Addresses: prefixes("10.9.0.2/24", "2001:db8:99::2/64"), Gateways: []netip.Addr{mustIP("10.9.0.1"), mustIP("2001:db8:99::1")},
		LBPolicy: &config.Policy{Policy: config.PolicyRoundRobin, Segments: []string{"front", "a"}},
	}
	dual := dualConfig()
	for _, name := range []string{"a", "b"} {
		cfg.Segments[name].Addresses = dual.Segments[name].Addresses
	}
	cfg.Bridges["lan"].Addresses, cfg.Bridges["lan"].Gateways = dual.Bridges["lan"].Addresses, dual.Bridges["lan"].Gateways
	return cfg
}

func setupConfigs(t testing.TB) (configs []*config.Config) {
	for _, change := range setups {
		cfg := twinConfig()
		change(cfg)
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		configs = append(configs, cfg)
	}
	return configs
}

// step is one thing that happens in a conversation.
type step struct {
	kind, who byte // what, and at which device; familyIPv6 of who is set for IPv6
	host      byte // the other end
	port      byte // both ports
	flags     byte // of TCP, or the type of an ICMP message
	size      byte // of the payload
	at, flip  byte // a byte of the frame is changed, where flip is not zero
}

const (
	stepLen    = 8
	familyIPv6 = 0x80 // of step.who
)

func readStep(b []byte) step { return step{b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]} }

func steps(all ...any) (script []byte) {
	for _, s := range all {
		switch s := s.(type) {
		case step:
			script = append(script, s.kind, s.who, s.host, s.port, s.flags, s.size, s.at, s.flip)
		case []byte:
			script = append(script, s...)
		}
	}
	return script
}

// Kinds of steps.
const (
	doTCP      = iota // a segment, from the network or a segment
	doUDP             // a datagram
	doEcho            // an echo request
	doReply           // an echo reply out of nowhere
	doAnswer          // the other end of what a device sent last answers it
	doError           // an ICMP error about what a device sent last
	doFragment        // a datagram in fragments
	doARP             // a host asks for, or tells, its address
	doPass            // time passes
	doRaw             // the frame of the input
	doOptions         // a segment with IP options
	doPlain           // a datagram without a checksum
	doNext            // the next segment of who was sent a segment last
	kinds
)

var (
	twinHosts = []string{
		router, otherHost, farHost, "10.20.3.4", "203.0.113.200", "10.9.0.1",
		serverA, serverB, pseudo, "127.0.0.1", "224.0.0.5", "192.168.1.255", "0.1.2.3",
		routerOnA, "192.168.50.3", "192.168.40.2", "192.168.40.254", "192.168.40.253", "192.168.60.2", "8.8.8.8",
	}
	twinHosts6 = []string{
		router6, otherHost6, farHost6, "2001:db8:20::4", "2001:db8:9::2", "2001:db8:99::1",
		serverA6, serverB6, pseudo6, "::1", "ff02::5", "::ffff:192.168.1.1", "::192.168.1.1",
		routerOnA6, "fd00:50::8123:4567:89ab:cdef", "fd00:40::2", "fd00:40::ffff", "fd00:40::fffe", "fd00:60::2", "2001:db8:8::8",
	}
	twinPorts = []uint16{80, 53, 443, 22, 8080, 0, 65535, 500}
	twinFlags = []string{"S", "A", "SA", "FA", "RA", "R", "F", "", "SF", "SR"}
	twinSizes = []int{0, 1, 2, 7, 64, 535, 1400, 1472, 1473, 3000}
	twinTimes = []time.Duration{time.Millisecond, time.Second, 31 * time.Second, flow.TimeWait + time.Second, 4*time.Minute + time.Second, 3 * time.Hour}
)

// twinDevices are where frames arrive, with the ends that they have there.
var twinDevices = []struct {
	name string
	ends ends
	own6 string // the address of IPv6 instead of the one in ends
}{
	{"nic0", ends{srcMAC: routerMAC, dstMAC: nicMAC, dst: pseudo}, pseudo6},
	{"vnic-A", ends{srcMAC: vnicAMAC, dstMAC: routerMAC, src: serverA}, serverA6},
	{"vnic-B", ends{srcMAC: vnicBMAC, dstMAC: routerMAC, src: serverB}, serverB6},
	{"vnic-F", ends{srcMAC: mustMAC("50:01:02:03:04:0f"), dstMAC: routerMAC, src: "192.168.40.1"}, "fd00:40::1"},
	{"nic1", ends{srcMAC: routerMAC, dstMAC: nicMAC, dst: "10.9.0.2"}, "2001:db8:99::2"},
}

func pick[T any](from []T, by byte) T { return from[int(by)%len(from)] }

// play lets a step happen.
func (w *twins) play(s step, raw []byte) {
	d := pick(twinDevices, s.who&^familyIPv6)
	if s.kind%kinds == doPass {
		w.pass(pick(twinTimes, s.size))
		return
	}
	e, hosts := d.ends, twinHosts
	if s.who&familyIPv6 != 0 {
		hosts = twinHosts6
		if e.dst == "" {
			e.src = d.own6
		} else {
			e.dst = d.own6
		}
	}
	if e.dst == "" {
		e.dst = pick(hosts, s.host)
	} else {
		e.src = pick(hosts, s.host)
	}
	for _, f := range w.frames(s, d.name, e, raw) {
		if s.flip != 0 && len(f) > 0 {
			f = slices.Clone(f)
			f[int(s.at)%len(f)] ^= s.flip
		}
		w.put(d.name, f)
	}
}

// frames are those that a step lets arrive at a device.
func (w *twins) frames(s step, device string, e ends, raw []byte) [][]byte {
	ipv6 := s.who&familyIPv6 != 0
	e.sport, e.dport = 4000+uint16(s.port>>5), pick(twinPorts, s.port&31)
	payload := string(make([]byte, pick(twinSizes, s.size)))
	last := w.last[device]
	switch s.kind % kinds {
	case doTCP:
		return [][]byte{e.tcp(pick(twinFlags, s.flags), payload)}
	case doUDP:
		return [][]byte{e.udp(payload)}
	case doEcho:
		e.dport = 0
		return [][]byte{e.echo(payload)}
	case doReply:
		e.sport, e.dport = 0, e.sport
		return [][]byte{e.echo(payload)}
	case doAnswer:
		return answer(last, s, payload)
	case doError:
		if len(last) < packet.EthHeaderLen+packet.IPv4MinLen {
			return nil
		}
		if ipv6 {
			kinds := []uint8{packet.ICMPv6Unreachable, packet.ICMPv6PacketTooBig, packet.ICMPv6TimeExceeded, packet.ICMPv6ParameterProblem, 5, 137}
			return [][]byte{e.icmpErrorAbout(pick(kinds, s.flags), last, ipv6HeaderLen+8+int(s.size))}
		}
		kinds := []uint8{packet.ICMPUnreachable, packet.ICMPTimeExceeded, packet.ICMPParameterProblem, 4, 5}
		return [][]byte{e.icmpErrorAbout(pick(kinds, s.flags), last, packet.IPv4MinLen+8+int(s.size))}
	case doFragment:
		fragments := e.fragments(string(make([]byte, 1000+int(s.size))), s.flags)
		if s.flags&1 == 1 {
			slices.Reverse(fragments)
		}
		return fragments[:1+int(s.flags>>1)%len(fragments)]
	case doARP:
		if ipv6 {
			return [][]byte{e.neighbourMessage(s)}
		}
		return [][]byte{arp(s.flags&1 == 1, pick([]config.MAC{routerMAC, hostMAC, vnicAMAC, config.BroadcastMAC}, s.size), e.src, nicMAC, e.dst)}
	case doRaw:
		return [][]byte{raw}
	case doNext:
		return next(last, s)
	case doOptions:
		if ipv6 {
			return [][]byte{withHeaders(e.tcp("S", payload), pick(twinChains, s.flags)...)}
		}
		ip := e.ip(layers.IPProtocolTCP)
		ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(e.sport), DstPort: layers.TCPPort(e.dport), SYN: true}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		return [][]byte{e.build(ip, tcp, gopacket.Payload(payload))}
	default: // doPlain
		f := e.udp(payload)
		header := packet.IPv4MinLen
		if ipv6 {
			header = ipv6HeaderLen
		}
		binary.BigEndian.PutUint16(f[packet.EthHeaderLen+header+6:], 0)
		return [][]byte{append(f, make([]byte, s.flags%20)...)} // and Ethernet's padding
	}
}

// twinChains are extension headers of all kinds.
var twinChains = [][]extension{
	{optionsOf(headerHop, 8)}, {optionsOf(headerOptions, 16)}, {optionsOf(headerHop, 16), optionsOf(headerOptions, 8)}, {fragmentOf(0, false, 7)},
	{{43, []byte{0, 0, 1, 0, 0, 0, 0}}}, {{43, []byte{0, 2, 0, 0, 0, 0, 0}}}, {optionsOf(headerOptions, 264), optionsOf(headerOptions, 256)},
	{{51, append([]byte{4}, make([]byte, 22)...)}}, {optionsOf(headerOptions, 8), optionsOf(headerHop, 8)},
}

// fragments are those of a datagram.
func (e ends) fragments(payload string, id byte) [][]byte {
	if strings.Contains(e.dst, ":") {
		return cut6(e.udp(payload), uint32(id), 504)
	}
	return cut(e.udp(payload), uint16(id), 504)
}

// neighbourMessage is a message of NDP or MLD.
func (e ends) neighbourMessage(s step) []byte {
	e.srcMAC = pick([]config.MAC{routerMAC, hostMAC, vnicAMAC, config.BroadcastMAC}, s.size)
	kind := pick([]uint8{135, 136, 135, 136, 133, 134, 137, 130}, s.flags)
	target := mustIP(e.src).As16()
	if kind == 135 {
		target = mustIP(e.dst).As16()
	}
	body := slices.Concat(target[:], []byte{2 - kind&1, 1}, e.srcMAC[:])
	f := e.icmpv6(kind, 0, uint32(s.at&7)<<29, body)
	f[packet.EthHeaderLen+7] = 255 - s.at>>7 // the hop limit
	if kind == 130 {
		return withHeaders(f, optionsOf(headerHop, 8))
	}
	return f
}

// answer is what the other end of a frame sends back.
func answer(last []byte, s step, payload string) [][]byte {
	if len(last) < packet.EthHeaderLen {
		return nil
	}
	shortest := map[uint16]int{packet.EtherIPv4: packet.IPv4MinLen, packet.EtherIPv6: ipv6HeaderLen}[binary.BigEndian.Uint16(last[12:])]
	if shortest == 0 || len(last) < packet.EthHeaderLen+shortest {
		return nil
	}
	d := decode(last)
	e := ends{d.dstMAC, d.srcMAC, d.dst, d.src, d.dport, d.sport}
	switch d.proto {
	case config.TCP:
		return [][]byte{e.tcp(pick(twinFlags, s.flags), payload)}
	case config.UDP:
		return [][]byte{e.udp(payload)}
	case config.ICMP:
		return [][]byte{e.echo(payload)}
	}
	return nil
}

// twinTexts are what ends of a connection say.
var twinTexts = []string{"", headOfA, headOfA[:20], headOfA[20:], strings.ReplaceAll(headOfA, "www.", ""), strings.ReplaceAll(headOfA, "www.a", "b"), "SSH-2.0-x\r\n", "\x16\x03\x01"}

// next is the segment that comes after one, by its numbers.
func next(last []byte, s step) [][]byte {
	if len(last) < packet.EthHeaderLen+packet.IPv4MinLen || len(answer(last, s, "")) == 0 || decode(last).proto != config.TCP {
		return nil
	}
	heard, ok := gopacket.NewPacket(last, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok {
		return nil
	}
	d := decode(last)
	says := tcpSegment{
		flags: pick([]byte{packet.TCPACK, synAck, packet.TCPFIN | packet.TCPACK, packet.TCPRST, packet.TCPRST | packet.TCPACK}, s.flags),
		seq:   heard.Ack + uint32(s.at&7)*20, ack: heard.Seq + uint32(len(heard.Payload)), window: 500, payload: pick(twinTexts, s.size),
	}
	if heard.SYN || heard.FIN {
		says.ack++
	}
	if says.flags == synAck {
		says.seq, says.payload = 7<<28, ""
	}
	if s.flags&0x80 != 0 {
		says.times, says.odd = []uint32{uint32(s.host), 77}, s.port&1 != 0
	}
	return [][]byte{says.from(ends{d.dstMAC, d.srcMAC, d.dst, d.src, d.dport, d.sport})}
}

// handshake opens a connection to port 80 of a segment under a policy that takes
// the first.
func handshake(host byte) []byte {
	return steps(step{host: host}, step{kind: doAnswer, who: 1, flags: 2}, step{host: host, flags: 1})
}

// ofIPv6 is a conversation in IPv6 instead of IPv4.
func ofIPv6(script []byte) []byte {
	script = slices.Clone(script)
	for s := range slices.Chunk(script, stepLen) {
		s[1] |= familyIPv6
	}
	return script
}

// conversations are the beginnings of the fuzzer's corpus: each in both families.
func conversations() (all [][]byte) {
	for _, c := range conversationsOfIPv4() {
		all = append(all, c, ofIPv6(c))
	}
	return all
}

func conversationsOfIPv4() (all [][]byte) {
	add := func(steps []byte) { all = append(all, steps) }
	for host := range twinHosts {
		add(handshake(byte(host)))
	}
	// A connection whose segment a host name chooses, in one piece and in two, and on either segment.
	for vnic, said := range [][]byte{{1}, {2, 3}, {3, 2}, {4}, {5}, {6}, {7}} {
		client := steps(step{host: 2}, step{kind: doNext})
		for i, text := range said {
			client = append(client, steps(step{kind: doNext, size: text, at: byte(i & int(said[0]) & 1)})...)
		}
		for _, server := range []byte{1, 2, 3} {
			add(slices.Concat(client, steps(
				step{kind: doNext, who: server, flags: 1}, step{kind: doNext, who: server, size: 6, flags: 0x80}, step{kind: doNext, size: 6, flags: 0x80},
				step{kind: doError, host: 1, size: 20}, step{kind: doError, who: server, host: 13, size: 20},
				step{kind: doNext, who: server, flags: 2}, step{kind: doNext, flags: 2}, step{kind: doNext, who: server},
				step{host: 2}, step{kind: doNext, size: byte(vnic)}, step{kind: doPass, size: 1}, step{kind: doPass, size: 2}, step{kind: doNext})))
		}
	}
	closing := steps(handshake(2), step{host: 2, flags: 3}, step{kind: doAnswer, who: 1, flags: 3})
	add(steps(closing, step{host: 2}, step{kind: doAnswer, who: 1, flags: 2}))
	add(steps(closing, step{kind: doPass, size: 3}, step{host: 2}))
	add(steps(closing, step{kind: doPass, size: 4}, step{host: 2}))
	add(steps(handshake(2), step{host: 2, flags: 5}, step{host: 2, flags: 1, size: 3}, step{host: 2, flags: 5}, step{host: 2}))
	add(steps(handshake(2), step{kind: doAnswer, who: 1, flags: 4}, step{host: 4}, step{host: 2}))
	for _, kind := range []byte{doTCP, doUDP, doEcho, doReply, doFragment, doARP, doOptions, doPlain} {
		var there, out []byte
		for i := range byte(len(twinHosts)) {
			there = append(there, steps(step{kind: kind, host: i, size: i, port: i, flags: i},
				step{kind: doAnswer, who: 1, size: i}, step{kind: doAnswer, who: 2}, step{kind: doAnswer, who: 3},
				step{kind: doError, who: 1, host: 13, size: i}, step{kind: doError, host: 1, size: i})...)
			for vnic := range byte(3) {
				out = append(out, steps(step{kind: kind, who: 1 + vnic, host: i, size: i, flags: i & 1},
					step{kind: doAnswer}, step{kind: doAnswer, who: 1}, step{kind: doError, host: 1})...)
			}
		}
		add(there)
		add(out)
	}
	// A segment opens a connection with the tuple of one that a client has reset, and
	// perhaps opened again on another segment.
	add(steps(handshake(0), step{flags: 5}, step{kind: doAnswer, who: 1}))
	add(steps(handshake(0), step{flags: 5}, step{}, step{kind: doAnswer, who: 1}))
	// A host opens a connection with the tuple of one of a segment's that it has reset.
	add(steps(step{who: 3, host: 19}, step{kind: doAnswer, flags: 5}, step{kind: doAnswer}))
	// Clients that share an alias, where the first one's connection was never answered
	// and began anew elsewhere.
	var sharing []byte
	for _, host := range []byte{2, 3, 4, 5, 19, 1} {
		sharing = append(sharing, steps(step{host: host}, step{host: host, flags: 5}, step{host: host})...)
	}
	add(slices.Concat(sharing, sharing))
	// Several clients with one port, more than there are aliases for.
	var many []byte
	for port := range byte(8) {
		for _, host := range []byte{2, 3, 4, 5, 19, 1} {
			many = append(many, steps(step{host: host, port: port % 2 << 5}, step{kind: doAnswer, who: 1, flags: 2})...)
		}
	}
	add(many)
	add(steps(handshake(2), step{kind: doPass, size: 5}, step{host: 2, flags: 1}))
	return all
}
