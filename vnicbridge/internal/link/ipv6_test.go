package link

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

var (
	nicMAC    = config.MAC{0xb0, 0xc7, 0x45, 0xf5, 0xde, 0x2d}
	secondMAC = config.MAC{0xb0, 0xc7, 0x45, 0xf5, 0xde, 0x2e} // of another NIC of ours
	hostMAC   = config.MAC{0x00, 0x11, 0x22, 0x33, 0x44, 0x55}
	otherMAC  = config.MAC{0x00, 0x11, 0x22, 0x33, 0x44, 0x66}
	routerMAC = config.MAC{0x00, 0x24, 0xa5, 0x57, 0xe6, 0xe8}

	pseudo    = addr("2001:db8:1::2")
	host      = addr("2001:db8:1::77")
	router    = addr("fe80::1")
	ownLocal  = addr("fe80::b")
	hostLocal = addr("fe80::77")
)

func addr(text string) packet.Addr { return packet.AddrOf(netip.MustParseAddr(text)) }

// testNIC is a NIC that keeps what is sent.
type testNIC struct {
	mu     sync.Mutex
	sent   []packet.Frame
	groups []config.MAC
}

func (*testNIC) Receive([]packet.Frame) (int, error)        { return 0, net.ErrClosed }
func (*testNIC) Close() error                               { return nil }
func (*testNIC) Link() (iface.LinkState, error)             { return iface.LinkState{}, nil }
func (*testNIC) Index() int                                 { return 1 }
func (*testNIC) LeftOut() map[packet.DropReason]iface.Tally { return nil }
func (*testNIC) Know(packet.Addr, config.MAC, bool)         {}
func (n *testNIC) Send(frames []packet.Frame) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent = append(n.sent, frames...)
	return len(frames)
}

func (n *testNIC) Join(group config.MAC) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = append(n.groups, group)
	return nil
}

func (n *testNIC) Leave(group config.MAC) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = slices.DeleteFunc(n.groups, func(g config.MAC) bool { return g == group })
	return nil
}

// testLink is a link with its NIC, on which a test plays the other hosts.
type testLink struct {
	*IPv6
	nic   *testNIC
	iface *iface.Iface
	start time.Time
}

func newTestLink(linkLocal string) *testLink {
	ifc := iface.New(1, "nic0")
	ifc.Family = config.IPv6
	ifc.NIC = &iface.NICSide{Address: pseudo, Network: netip.MustParsePrefix("2001:db8:1::/64")}
	nic := new(testNIC)
	ifc.SetDevice(nic)
	ifc.SetMAC(nicMAC)
	o := Options{Bridge: "lan", Key: [2]uint64{1, 2}, Ours: func(mac config.MAC) bool { return mac == secondMAC }, Log: slog.New(slog.DiscardHandler)}
	if linkLocal != "" {
		o.LinkLocal = netip.MustParseAddr(linkLocal)
	}
	l := &testLink{New(ifc, o).(*IPv6), nic, ifc, time.Now()}
	l.Learned = func(MACChange) {}
	l.Publish = func(packet.Addr, config.MAC, bool) {}
	l.SentByKernel = func(func(packet.Addr, int64)) {}
	return l
}

// acquiredLink is a link whose addresses are valid, with the link-local address ownLocal.
func acquiredLink(t testing.TB) *testLink {
	l := newTestLink("fe80::b")
	if err := l.Acquire(false); err != nil {
		t.Fatal(err)
	}
	l.pass(10 * time.Second)
	l.take()
	return l
}

func (l *testLink) now() int64 { return int64(time.Since(l.start)) + 1 }

// pass lets time pass as the plane does.
func (l *testLink) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
		l.Tick(l.now())
	}
}

// take returns what was sent since the last time.
func (l *testLink) take() []packet.Frame {
	l.nic.mu.Lock()
	defer l.nic.mu.Unlock()
	sent := l.nic.sent
	l.nic.sent = nil
	return sent
}

// messages returns the messages of NDP that were sent since the last time.
func (l *testLink) messages() (all []NDPMessage) {
	for _, f := range l.take() {
		if m, err := ParseNDP(&f); err == nil {
			all = append(all, m)
		}
	}
	return all
}

// put lets a frame arrive.
func (l *testLink) put(f packet.Frame) packet.DropReason { return l.HandleNeighbour(&f, l.now()) }

// solicits lets a host ask for an address of ours: all hosts, or the NIC alone.
func (l *testLink) solicits(m NDPMessage, from config.MAC, toAll bool) packet.DropReason {
	dst := nicMAC
	m.To = m.Target
	if toAll {
		m.To = SolicitedNode(m.Target)
		dst = GroupMAC(m.To)
	}
	return l.put(m.Frame(from, dst))
}

// advertises lets a host say which MAC it has.
func (l *testLink) advertises(target packet.Addr, mac config.MAC, solicited, override bool) packet.DropReason {
	m := NDPMessage{Advertisement: true, From: target, To: allNodes, Target: target, MAC: mac, Solicited: solicited, Override: override}
	dst := GroupMAC(allNodes)
	if solicited {
		m.To, dst = pseudo, nicMAC
	}
	return l.put(m.Frame(hostMAC, dst))
}

func (l *testLink) knows(a packet.Addr) config.MAC {
	mac, _ := l.Lookup(a.Netip())
	return mac
}

// packetTo is a frame for a destination.
func packetTo(dst packet.Addr) packet.Frame {
	return packet.BuildFrame(nicMAC, config.MAC{}, layers.EthernetTypeIPv6, ipv6Header(pseudo, dst, 64))
}

// Row A1: both addresses are answered for, and no other.
func TestSolicitationsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, target := range []packet.Addr{pseudo, ownLocal} {
			for _, from := range []packet.Addr{host, hostLocal} {
				for _, toAll := range []bool{true, false} {
					for _, option := range []config.MAC{otherMAC, {}} {
						if reason := l.solicits(NDPMessage{From: from, Target: target, MAC: option}, hostMAC, toAll); reason != packet.Keep {
							t.Errorf("dropped for %s", reason)
						}
						frames := l.take()
						if len(frames) != 1 {
							t.Fatalf("%d answers", len(frames))
						}
						want := NDPMessage{Advertisement: true, From: target, To: from, Target: target, MAC: nicMAC, Solicited: true, Override: true}
						if m, err := ParseNDP(&frames[0]); err != nil || m != want {
							t.Errorf("answered by %+v, %v", m, err)
						}
						to := hostMAC
						if !option.IsZero() {
							to = option
						}
						if f := frames[0]; f.DstMAC() != to || f.SrcMAC() != nicMAC {
							t.Errorf("the answer goes from %s to %s, want to %s", f.SrcMAC(), f.DstMAC(), to)
						}
					}
				}
			}
		}
		for _, target := range []packet.Addr{host, addr("fd00:50::1"), addr("fd00:50::2"), addr("2001:db8:2::2")} {
			if reason := l.solicits(NDPMessage{From: hostLocal, Target: target}, hostMAC, true); reason != packet.DropARP || len(l.take()) > 0 {
				t.Errorf("a solicitation for %s is handled as %s", target.Netip(), reason)
			}
		}
		stray := NDPMessage{From: host, To: hostLocal, Target: pseudo}
		if reason := l.put(stray.Frame(hostMAC, nicMAC)); reason != packet.DropARP || len(l.take()) > 0 {
			t.Errorf("a solicitation that is sent to another host's address is handled as %s", reason)
		}
		lost := NDPMessage{From: host, To: pseudo, Target: pseudo}
		if reason := l.put(lost.Frame(hostMAC, otherMAC)); reason != packet.DropNotForUs || len(l.take()) > 0 {
			t.Errorf("a solicitation that is sent to another host's MAC is handled as %s", reason)
		}
	})
}

// Row A1: another host that asks whether an address of ours is free gives it up.
func TestDuplicateAddressDetectionOfOthersIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, target := range []packet.Addr{pseudo, ownLocal} {
			l.solicits(NDPMessage{Target: target, Nonce: "abcdef"}, hostMAC, true)
			frames := l.take()
			if len(frames) != 1 {
				t.Fatalf("%d answers", len(frames))
			}
			want := NDPMessage{Advertisement: true, From: target, To: allNodes, Target: target, MAC: nicMAC, Override: true}
			if m, err := ParseNDP(&frames[0]); err != nil || m != want || frames[0].DstMAC() != GroupMAC(allNodes) {
				t.Errorf("answered by %+v, %v, to %s", m, err, frames[0].DstMAC())
			}
		}
	})
}

// Rows A1, A7: RFC 4861 §7.1.1 and §7.1.2, RFC 6980 §5.
func TestInvalidMessagesAreDropped(t *testing.T) {
	solicitation := NDPMessage{From: host, To: SolicitedNode(pseudo), Target: pseudo, MAC: hostMAC}
	advertisement := NDPMessage{Advertisement: true, From: host, To: pseudo, Target: host, MAC: hostMAC, Solicited: true, Override: true}
	const ip, icmp = packet.EthHeaderLen, packet.EthHeaderLen + packet.IPv6HeaderLen
	flaws := []struct {
		name  string
		spoil func(m *NDPMessage) // nil: none
		bytes func(eth []byte) []byte
	}{
		{"hop limit", nil, func(eth []byte) []byte { eth[ip+7] = 254; return eth }},
		{"protocol", nil, func(eth []byte) []byte { eth[ip+6] = byte(layers.IPProtocolUDP); return eth }},
		{"no MAC in the option", nil, func(eth []byte) []byte { clear(eth[icmp+26 : icmp+32]); return summed(eth) }},
		{"code", nil, func(eth []byte) []byte { eth[icmp+1] = 1; return summed(eth) }},
		{"checksum", nil, func(eth []byte) []byte { eth[icmp+2]++; return eth }},
		{"version", nil, func(eth []byte) []byte { eth[ip] = 0x45; return eth }},
		{"length beyond the frame", nil, func(eth []byte) []byte { eth[ip+5]++; return eth }},
		{"no target", nil, func(eth []byte) []byte { return summed(cut(eth, 20)) }},
		{"nothing", nil, func(eth []byte) []byte { return cut(eth, 0) }},
		{"part of an option", nil, func(eth []byte) []byte { return summed(cut(eth, 31)) }},
		{"part of an option's header", nil, func(eth []byte) []byte { return summed(cut(eth, 25)) }},
		{"option of length 0", nil, func(eth []byte) []byte { eth[icmp+25] = 0; return summed(eth) }},
		{"option beyond the message", nil, func(eth []byte) []byte { eth[icmp+25] = 2; return summed(eth) }},
		{"group's MAC", func(m *NDPMessage) { m.MAC[0] |= 1 }, nil},
		{"multicast target", func(m *NDPMessage) { m.Target = allNodes }, nil},
		{"no address as target", func(m *NDPMessage) { m.Target = unspecified }, nil},
		{"IPv4 target", func(m *NDPMessage) { m.Target = addr("10.0.0.1") }, nil},
		{"IPv4 source", func(m *NDPMessage) { m.From = addr("10.0.0.1") }, nil},
		{"multicast source", func(m *NDPMessage) { m.From = allNodes }, nil},
		{"from ::, with a MAC", func(m *NDPMessage) { m.From = unspecified }, nil},
		{"fragment", nil, func(eth []byte) []byte { return extended(eth, layers.IPProtocolIPv6Fragment) }},
		{"destination options", nil, func(eth []byte) []byte { return extended(eth, layers.IPProtocolIPv6Destination) }},
	}
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, valid := range []NDPMessage{solicitation, advertisement} {
			if f := valid.Frame(hostMAC, GroupMAC(allNodes)); l.put(f) == packet.DropMalformed {
				t.Errorf("a valid message is dropped: %+v", valid)
			}
			for _, flaw := range flaws {
				m := valid
				if flaw.spoil != nil {
					flaw.spoil(&m)
				}
				f := m.Frame(hostMAC, GroupMAC(allNodes))
				if flaw.bytes != nil {
					f.Data = append(f.Data[:packet.VNetHeaderLen:packet.VNetHeaderLen], flaw.bytes(f.Eth())...)
				}
				if reason := l.put(f); reason != packet.DropMalformed {
					t.Errorf("%s: %v is handled as %s", flaw.name, m, reason)
				}
			}
		}
		l.take()
		for name, m := range map[string]NDPMessage{
			"answer to all":                 {Advertisement: true, From: host, To: allNodes, Target: host, MAC: hostMAC, Solicited: true},
			"from :: to one":                {To: pseudo, Target: pseudo},
			"from :: to another's group":    {To: SolicitedNode(host), Target: pseudo},
			"advertisement from no address": {Advertisement: true, To: allNodes, Target: host, MAC: hostMAC},
		} {
			if reason := l.put(m.Frame(hostMAC, nicMAC)); reason != packet.DropMalformed {
				t.Errorf("%s is handled as %s", name, reason)
			}
		}
		if reason := l.put(NDPMessage{From: host, To: pseudo, Target: pseudo}.Frame(GroupMAC(allNodes), nicMAC)); reason != packet.DropMalformed {
			t.Errorf("a message from a group's MAC is handled as %s", reason)
		}
		if sent := l.take(); len(sent) > 0 {
			t.Errorf("%d frames were sent", len(sent))
		}
	})
}

// cut returns a frame whose IPv6 packet has a number of bytes behind its header.
func cut(eth []byte, length int) []byte {
	eth[packet.EthHeaderLen+4], eth[packet.EthHeaderLen+5] = byte(length>>8), byte(length)
	return eth[:packet.EthHeaderLen+packet.IPv6HeaderLen+length]
}

// summed corrects the checksum of a frame with an ICMPv6 message.
func summed(eth []byte) []byte {
	ip := slices.Clone(eth[packet.EthHeaderLen:])
	message := ip[packet.IPv6HeaderLen:]
	header := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(message[0], message[1])}
	_ = header.SetNetworkLayerForChecksum(&layers.IPv6{SrcIP: net.IP(ip[8:24]), DstIP: net.IP(ip[24:40])})
	buf := gopacket.NewSerializeBuffer()
	_ = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, header, gopacket.Payload(message[4:]))
	return append(eth[:packet.EthHeaderLen+packet.IPv6HeaderLen], buf.Bytes()...)
}

// extended returns a frame with an extension header of 8 bytes before the message: a whole
// datagram in one fragment, or padding.
func extended(eth []byte, kind layers.IPProtocol) []byte {
	const ip, rest = packet.EthHeaderLen, packet.EthHeaderLen + packet.IPv6HeaderLen
	header := []byte{byte(layers.IPProtocolICMPv6), 0, 0, 0, 0, 0, 0, 0}
	if kind != layers.IPProtocolIPv6Fragment {
		header[2], header[3] = optionPadN, 4
	}
	eth = slices.Concat(eth[:rest], header, eth[rest:])
	eth[ip+6] = byte(kind)
	eth[ip+5] += 8
	return eth
}

// Row S6: routers' messages change nothing, whatever they say.
func TestRoutersMessagesAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.SetGateway(router.Netip())
		l.pass(time.Second)
		l.advertises(router, routerMAC, true, true)
		before := len(l.Neighbours.Table.Entries)
		prefix := layers.ICMPv6Option{Type: layers.ICMPv6OptPrefixInfo, Data: make([]byte, 30)}
		mac := layers.ICMPv6Option{Type: layers.ICMPv6OptSourceAddress, Data: otherMAC[:]}
		toUs := net.IP(pseudo[:])
		for kind, message := range map[uint8]gopacket.SerializableLayer{
			routerSolicitation:                   &layers.ICMPv6RouterSolicitation{Options: layers.ICMPv6Options{mac}},
			layers.ICMPv6TypeRouterAdvertisement: &layers.ICMPv6RouterAdvertisement{RouterLifetime: 1800, ReachableTime: 1, RetransTimer: 1, Options: layers.ICMPv6Options{mac, prefix}},
			redirect:                             &layers.ICMPv6Redirect{TargetAddress: net.IP(hostLocal[:]), DestinationAddress: toUs, Options: layers.ICMPv6Options{mac}},
		} {
			for _, from := range []packet.Addr{router, hostLocal} {
				if reason := l.put(icmpv6Frame(otherMAC, nicMAC, ipv6Header(from, pseudo, ndpHopLimit), kind, message)); reason != packet.DropARP {
					t.Errorf("a message of type %d is handled as %s", kind, reason)
				}
				if reason := l.put(icmpv6Frame(otherMAC, nicMAC, ipv6Header(from, pseudo, 64), kind, message)); reason != packet.DropMalformed {
					t.Errorf("a message of type %d from beyond the link is handled as %s", kind, reason)
				}
			}
		}
		if gateway, mac := l.Router(); gateway != router || mac != routerMAC {
			t.Errorf("the gateway is %s at %s", gateway.Netip(), mac)
		}
		if after := len(l.Neighbours.Table.Entries); after != before {
			t.Errorf("%d neighbours after, %d before", after, before)
		}
	})
}

// Row A2: both addresses are solicited once, beside each other, and announced when a second
// has passed.
func TestTheAddressesAreProbedAndAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink("")
		if err := l.Acquire(true); err != nil {
			t.Fatal(err)
		}
		if passed := time.Since(l.start); passed != dadTime {
			t.Errorf("it took %s", passed)
		}
		own := l.LinkLocal()
		sent := l.messages()
		for i, want := range []packet.Addr{pseudo, own} {
			m := sent[i]
			if m.Advertisement || m.From != unspecified || m.To != SolicitedNode(want) || m.Target != want || !m.MAC.IsZero() || len(m.Nonce) != nonceLen {
				t.Errorf("solicited %+v", m)
			}
		}
		if len(sent) != 2 {
			t.Errorf("%d messages, want 2", len(sent))
		}
		var times []time.Duration
		for passed := time.Duration(0); passed < 10*time.Second; passed += 250 * time.Millisecond {
			l.pass(250 * time.Millisecond)
			announced := l.messages()
			if len(announced) == 0 {
				continue
			}
			times = append(times, passed)
			if len(announced) != 2 || announced[0].Target != pseudo || announced[1].Target != own {
				t.Fatalf("announced %+v", announced)
			}
			for _, m := range announced {
				if !m.Advertisement || m.From != m.Target || m.To != allNodes || m.MAC != nicMAC || m.Solicited || !m.Override {
					t.Errorf("announced %+v", m)
				}
			}
		}
		if want := []time.Duration{0, time.Second, 2 * time.Second}; !slices.Equal(times, want) {
			t.Errorf("announced after %v, want %v", times, want)
		}
	})
}

// Row A2: another host that has the pseudo address fails the start.
func TestAPseudoAddressInUseFailsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, rival := range map[string]NDPMessage{
			"it answers":               {Advertisement: true, From: pseudo, To: allNodes, Target: pseudo, MAC: hostMAC, Override: true},
			"it answers without a MAC": {Advertisement: true, From: hostLocal, To: allNodes, Target: pseudo},
			"it wants it too":          {To: SolicitedNode(pseudo), Target: pseudo, Nonce: "abcdef"},
			"it has no nonce":          {To: SolicitedNode(pseudo), Target: pseudo},
			"it speaks from it":        {From: pseudo, To: SolicitedNode(pseudo), Target: host, MAC: hostMAC},
		} {
			l := newTestLink("")
			go func() {
				time.Sleep(300 * time.Millisecond)
				l.put(rival.Frame(hostMAC, GroupMAC(rival.To)))
			}()
			err := l.Acquire(true)
			if err == nil || !strings.Contains(err.Error(), hostMAC.String()) || !strings.Contains(err.Error(), pseudo.Netip().String()) {
				t.Errorf("%s: the error is %v", name, err)
			}
			if passed := time.Since(l.start); passed != 300*time.Millisecond {
				t.Errorf("%s: it took %s", name, passed)
			}
			l.take()
			l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, true)
			if sent := l.messages(); len(sent) > 0 {
				t.Errorf("%s: sent %+v", name, sent)
			}
		}
	})
}

// Row A2: who only looks whether we are there, or returns what we sent, is no rival.
func TestOnlyARivalIsAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink("")
		go func() {
			time.Sleep(100 * time.Millisecond)
			own := l.messages()[0]
			group := GroupMAC(SolicitedNode(pseudo))
			for _, f := range []packet.Frame{
				own.Frame(nicMAC, group),   // returned by a loop
				own.Frame(otherMAC, group), // returned by a repeater with a MAC of its own
				NDPMessage{From: host, To: SolicitedNode(pseudo), Target: pseudo, MAC: hostMAC}.Frame(hostMAC, group),
				NDPMessage{To: SolicitedNode(pseudo), Target: pseudo}.Frame(hostMAC, nicMAC), // a switch's device tracking
				NDPMessage{To: SolicitedNode(host), Target: host}.Frame(hostMAC, group),
				NDPMessage{Advertisement: true, From: host, To: allNodes, Target: host, MAC: hostMAC}.Frame(hostMAC, GroupMAC(allNodes)),
				NDPMessage{Advertisement: true, From: pseudo, To: allNodes, Target: pseudo, MAC: nicMAC}.Frame(otherMAC, GroupMAC(allNodes)),
				NDPMessage{Advertisement: true, From: pseudo, To: allNodes, Target: pseudo, MAC: secondMAC}.Frame(secondMAC, GroupMAC(allNodes)),
			} {
				l.put(f)
			}
		}()
		if err := l.Acquire(true); err != nil {
			t.Error(err)
		}
	})
}

// Row A2: if another host has the derived link-local address, the next one is tried, 3 at
// most. A configured one fails the start.
func TestALinkLocalAddressInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := func(l *testLink, times int) (tried []packet.Addr) {
			for range times {
				time.Sleep(100 * time.Millisecond)
				a := l.LinkLocal()
				tried = append(tried, a)
				l.advertises(a, hostMAC, false, true)
				time.Sleep(900 * time.Millisecond)
			}
			return tried
		}
		l := newTestLink("")
		var tried []packet.Addr
		go func() { tried = taken(l, 2) }()
		if err := l.Acquire(true); err != nil {
			t.Fatal(err)
		}
		if passed := time.Since(l.start); passed != 3*dadTime {
			t.Errorf("it took %s", passed)
		}
		synctest.Wait()
		own := l.LinkLocal()
		if len(tried) != 2 || tried[0] == tried[1] || slices.Contains(tried, own) {
			t.Errorf("tried %v, and has %v", tried, own)
		}
		want := []config.MAC{GroupMAC(SolicitedNode(pseudo)), GroupMAC(SolicitedNode(own)), GroupMAC(allNodes)}
		if len(l.nic.groups) != len(want) || slices.ContainsFunc(want, func(g config.MAC) bool { return !slices.Contains(l.nic.groups, g) }) {
			t.Errorf("the NIC takes %v, want %v", l.nic.groups, want)
		}
		var solicited []packet.Addr
		for _, m := range l.messages() {
			solicited = append(solicited, m.Target)
		}
		if want := slices.Concat([]packet.Addr{pseudo}, tried, []packet.Addr{own}); !slices.Equal(solicited, want) {
			t.Errorf("solicited %v, want %v", solicited, want)
		}
		l.solicits(NDPMessage{From: host, Target: own}, hostMAC, true)
		l.solicits(NDPMessage{From: host, Target: tried[0]}, hostMAC, true)
		if sent := l.messages(); len(sent) != 1 || sent[0].Target != own {
			t.Errorf("answered %+v", sent)
		}

		l = newTestLink("")
		go taken(l, 3)
		if err := l.Acquire(true); err == nil || !strings.Contains(err.Error(), hostMAC.String()) {
			t.Errorf("the error is %v", err)
		}
		synctest.Wait()

		l = newTestLink("fe80::b")
		go taken(l, 1)
		if err := l.Acquire(true); err == nil || !strings.Contains(err.Error(), hostMAC.String()) || !strings.Contains(err.Error(), "fe80::b") {
			t.Errorf("the error is %v", err)
		}
		time.Sleep(time.Second)
	})
}

// Row A2: a later conflict is defended once in 10 s.
func TestTheAddressesAreDefended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, address := range []packet.Addr{pseudo, ownLocal} {
			defences := 0
			for range 25 {
				if reason := l.advertises(address, hostMAC, false, true); reason != packet.DropARP {
					t.Errorf("handled as %s", reason)
				}
				for _, m := range l.messages() {
					if !m.Advertisement || m.Target != address || m.MAC != nicMAC || m.Solicited || !m.Override || m.To != allNodes {
						t.Errorf("sent %+v", m)
					}
					defences++
				}
				time.Sleep(time.Second)
			}
			if defences != 3 {
				t.Errorf("%d defences in 25 s, want 3", defences)
			}
		}
		l.solicits(NDPMessage{From: pseudo, Target: ownLocal, MAC: hostMAC}, hostMAC, true)
		if mac := l.knows(pseudo); !mac.IsZero() {
			t.Errorf("we are reached by %s", mac)
		}
	})
}

// Row A8: the link-local address depends on the key, the bridge and the NIC alone.
func TestLinkLocalAddresses(t *testing.T) {
	key := [2]uint64{1, 2}
	first := linkLocal(key, "lan", nicMAC, 0)
	if !netip.MustParsePrefix("fe80::/64").Contains(first.Netip()) {
		t.Errorf("the address is %s", first.Netip())
	}
	if again := linkLocal(key, "lan", nicMAC, 0); again != first {
		t.Errorf("it is %s and then %s", first.Netip(), again.Netip())
	}
	for _, other := range []packet.Addr{
		linkLocal([2]uint64{1, 3}, "lan", nicMAC, 0), linkLocal(key, "wan", nicMAC, 0),
		linkLocal(key, "lan", hostMAC, 0), linkLocal(key, "lan", nicMAC, 1),
	} {
		if other == first {
			t.Error("two links have the same address")
		}
	}
	for id, want := range map[uint64]bool{
		0: true, 1: false, 0x02005efffe000000: true, 0x02005efffeffffff: true, 0x02005effff000000: false,
		0xfdffffffffffff7f: false, 0xfdffffffffffff80: true, 0xfdffffffffffffff: true, 0xfe00000000000000: false,
	} {
		if isReserved(id) != want {
			t.Errorf("%x is reserved: %v", id, !want)
		}
	}
}

// Row A8: the address stays if somebody sets another MAC than that of the hardware.
func TestTheLinkLocalAddressIsOfThePermanentMAC(t *testing.T) {
	addressOf := func(mac, permanent config.MAC) packet.Addr {
		ifc := iface.New(1, "nic0")
		ifc.Family = config.IPv6
		ifc.NIC = &iface.NICSide{Address: pseudo, Network: netip.MustParsePrefix("2001:db8:1::/64")}
		ifc.SetMAC(mac)
		return New(ifc, Options{Bridge: "lan", MAC: permanent}).(*IPv6).LinkLocal()
	}
	if addressOf(otherMAC, nicMAC) != addressOf(nicMAC, nicMAC) {
		t.Error("the address depends on the MAC that is set")
	}
	if addressOf(nicMAC, config.MAC{}) != addressOf(nicMAC, nicMAC) || addressOf(otherMAC, config.MAC{}) == addressOf(nicMAC, nicMAC) {
		t.Error("without a permanent MAC, the address does not depend on the one that is set")
	}
}

// Row A7: frames wait for the next hop, which is solicited from the pseudo address.
func TestNextHopsAreSolicited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.SetGateway(router.Netip())
		for dst, hop := range map[packet.Addr]packet.Addr{
			host: host, addr("fe80::9"): addr("fe80::9"), addr("2001:db8:2::1"): router,
		} {
			f := packetTo(dst)
			if ready, verdict := l.Forward(&f, dst, false, l.now()); ready || verdict != packet.Keep {
				t.Errorf("to %s: ready %v, %s", dst.Netip(), ready, verdict)
			}
			frames := l.take()
			if len(frames) != 1 {
				t.Fatalf("to %s: %d frames", dst.Netip(), len(frames))
			}
			want := NDPMessage{From: pseudo, To: SolicitedNode(hop), Target: hop, MAC: nicMAC}
			if m, err := ParseNDP(&frames[0]); err != nil || m != want || frames[0].DstMAC() != GroupMAC(want.To) {
				t.Errorf("to %s: solicited %+v, %v", dst.Netip(), m, err)
			}
			l.advertises(hop, otherMAC, true, true)
			if sent := l.take(); len(sent) != 1 || sent[0].DstMAC() != otherMAC {
				t.Errorf("to %s: sent %v", dst.Netip(), sent)
			}
			if ready, _ := l.Forward(&f, dst, false, l.now()); !ready || f.DstMAC() != otherMAC {
				t.Errorf("to %s: not ready afterwards", dst.Netip())
			}
		}
	})
}

// Row A7: a next hop that is silent is asked three times, a second apart.
func TestSilentNextHopsAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		f := packetTo(host)
		l.Forward(&f, host, false, l.now())
		l.pass(10 * time.Second)
		if sent := l.messages(); len(sent) != maxAsks {
			t.Errorf("solicited %d times", len(sent))
		}
		if n := l.iface.Drops[packet.DropUnresolved].Load(); n != 1 {
			t.Errorf("%d frames given up", n)
		}
	})
}

// Row A7: a MAC is used for 30 s, then confirmed by solicitations to that MAC.
func TestNextHopsAreConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		f := packetTo(host)
		l.Forward(&f, host, false, l.now())
		l.advertises(host, hostMAC, true, true)
		l.take()
		for i := range 29 {
			l.Forward(&f, host, false, l.now())
			l.pass(time.Second)
			if i == 20 {
				l.advertises(host, hostMAC, false, true) // nobody asked, so it proves nothing
			}
		}
		if sent := l.messages(); len(sent) > 0 {
			t.Errorf("asked again after %v", sent)
		}
		unicast, multicast := 0, 0
		for range 6 {
			if ready, _ := l.Forward(&f, host, false, l.now()); !ready {
				t.Error("the MAC is no longer used")
			}
			l.pass(time.Second)
			for _, f := range l.take() {
				m, err := ParseNDP(&f)
				switch {
				case err != nil || m.Target != host || m.MAC != nicMAC:
					t.Errorf("sent %+v, %v", m, err)
				case f.DstMAC() == hostMAC && m.To == host && multicast == 0:
					unicast++
				default:
					multicast++
				}
			}
		}
		if unicast != unicastAsks || multicast == 0 {
			t.Errorf("%d solicitations to the MAC, and then %d to the group", unicast, multicast)
		}
		// An answer without the option confirms the MAC (RFC 4861 §4.4).
		if reason := l.advertises(host, config.MAC{}, true, false); reason != packet.Keep {
			t.Errorf("handled as %s", reason)
		}
		l.Forward(&f, host, false, l.now())
		l.pass(20 * time.Second)
		if sent := l.messages(); len(sent) > 0 {
			t.Errorf("asked again: %+v", sent)
		}
	})
}

// Rows A7, S6: which advertisements are believed (RFC 4861 §7.2.5).
func TestAdvertisements(t *testing.T) {
	for _, c := range []struct {
		name                string
		known               bool
		mac                 config.MAC
		solicited, override bool
		want                config.MAC
	}{
		{"another MAC, without O", true, otherMAC, true, false, hostMAC},
		{"another MAC, without S and O", true, otherMAC, false, false, hostMAC},
		{"another MAC, with O", true, otherMAC, false, true, otherMAC},
		{"another MAC, with S and O", true, otherMAC, true, true, otherMAC},
		{"a group's MAC", true, config.MAC{1}, true, true, hostMAC},
		{"our own MAC", true, nicMAC, true, true, hostMAC},
		{"asked for", false, otherMAC, false, false, otherMAC},
		{"asked for, without the option", false, config.MAC{}, true, true, config.MAC{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := acquiredLink(t)
			f := packetTo(host)
			l.Forward(&f, host, false, l.now())
			if c.known {
				l.advertises(host, hostMAC, true, true)
			}
			time.Sleep(2 * LockTime)
			l.advertises(host, c.mac, c.solicited, c.override)
			if mac := l.knows(host); mac != c.want {
				t.Errorf("%s: the host has %s, want %s", c.name, mac, c.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		if reason := l.advertises(host, hostMAC, false, true); reason != packet.DropARP {
			t.Errorf("handled as %s", reason)
		}
		if len(l.Neighbours.Table.Entries) > 0 {
			t.Error("an advertisement that nobody asked for makes an entry")
		}
	})
}

// Rows A7, S6: whoever asks for us with its MAC need not be asked. It cannot take the place
// of a host that is known, who is asked instead.
func TestWhoAsksForUsIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, true)
		if mac := l.knows(host); !mac.IsZero() {
			t.Errorf("a host that does not say its MAC has %s", mac)
		}
		l.solicits(NDPMessage{From: host, Target: pseudo, MAC: hostMAC}, hostMAC, true)
		f := packetTo(host)
		if ready, _ := l.Forward(&f, host, false, l.now()); !ready || f.DstMAC() != hostMAC {
			t.Errorf("a host that asked for us is reached by %s: %v", f.DstMAC(), ready)
		}
		l.take()
		l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, false) // as routers probe
		l.take()
		l.pass(2 * LockTime)
		if asked := l.messages(); len(asked) > 0 {
			t.Errorf("a host that does not repeat its MAC is asked: %+v", asked)
		}
		l.solicits(NDPMessage{From: host, Target: pseudo, MAC: otherMAC}, otherMAC, true)
		l.take()
		if mac := l.knows(host); mac != hostMAC {
			t.Errorf("the host has %s", mac)
		}
		l.pass(time.Second)
		if asked := l.messages(); len(asked) == 0 || asked[0].Target != host || asked[0].To != SolicitedNode(host) {
			t.Errorf("asked %+v", asked)
		}
		l.advertises(host, otherMAC, true, true)
		if mac := l.knows(host); mac != otherMAC {
			t.Errorf("after its answer the host has %s", mac)
		}
		l.solicits(NDPMessage{From: addr("2001:db8:9::1"), Target: pseudo, MAC: otherMAC}, otherMAC, true)
		if mac := l.knows(addr("2001:db8:9::1")); !mac.IsZero() {
			t.Errorf("a host beyond the link has %s", mac)
		}
	})
}

// Row L2: forged sources on the link make few entries and few solicitations, and displace no
// host that is resolved.
func TestForgedSourcesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.solicits(NDPMessage{From: host, Target: pseudo, MAC: hostMAC}, hostMAC, true)
		l.take()
		solicited := 0
		const seconds = 10
		for i := range seconds * 1000 {
			dst := pseudo
			dst[8], dst[9], dst[10] = 0xff, byte(i>>8), byte(i)
			f := packetTo(dst)
			l.Forward(&f, dst, false, l.now())
			if size := l.Neighbours.Table.Sizes[PartResolving]; size > IPv6NeighbourBounds[PartResolving] {
				t.Fatalf("%d hosts are unresolved", size)
			}
			time.Sleep(time.Millisecond)
			if i%250 == 0 {
				l.Tick(l.now())
			}
			solicited += len(l.messages())
		}
		if most := (seconds + 1) * SolicitationRate; solicited > most || solicited < most/2 {
			t.Errorf("%d solicitations in %d s", solicited, seconds)
		}
		if mac := l.knows(host); mac != hostMAC {
			t.Error("a host that asked for us was displaced")
		}
	})
}

// Row A4: what we send names the NIC's MAC alone, in frame and option.
func TestEverythingCarriesTheNICsMAC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink("")
		if err := l.Acquire(true); err != nil {
			t.Fatal(err)
		}
		f := packetTo(host)
		l.Forward(&f, host, false, l.now())
		l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, true)
		l.pass(5 * time.Second)
		l.Close()
		for _, f := range l.take() {
			m, err := ParseNDP(&f)
			if f.SrcMAC() != nicMAC || err == nil && !m.MAC.IsZero() && m.MAC != nicMAC {
				t.Errorf("sent from %s: %+v", f.SrcMAC(), m)
			}
		}
	})
}

// Row A7: only of IPv6, a link-local address is on every link.
func TestLinkLocalAddressesAreOnTheLink(t *testing.T) {
	for link, hops := range map[string]map[string]string{
		"10.0.0.2/24":       {"10.0.0.9": "10.0.0.9", "169.254.0.9": "10.0.0.1", "192.0.2.9": "10.0.0.1"},
		"2001:db8:1::2/128": {"fe80::9": "fe80::9", "2001:db8:1::9": "fe80::1"},
	} {
		n := NewNeighbours(netip.MustParsePrefix(link).Masked())
		n.Gateway = netip.MustParseAddr("10.0.0.1")
		if n.link.Addr().Is6() {
			n.Gateway = netip.MustParseAddr("fe80::1")
		}
		for dst, want := range hops {
			if hop, ok := n.nextHop(netip.MustParseAddr(dst)); !ok || hop.String() != want {
				t.Errorf("the next hop to %s is %s, want %s", dst, hop, want)
			}
		}
	}
}
