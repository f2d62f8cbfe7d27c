package link

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

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
