package vnicbridge

import (
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// dualGroupMAC is the MAC of the pseudo address's solicited-node group (RFC 2464 §7).
var dualGroupMAC = config.MAC{0x33, 0x33, 0xff, 0, 0, 2}

// openMacvlan opens a macvlan as a NIC, in a namespace that only the test's goroutine has. A
// macvlan filters by MAC, as NICs do and veth pairs do not. send puts a frame on its link.
func openMacvlan(t *testing.T) (nic *host.OwnedNIC, send func(frame []byte)) {
	t.Helper()
	runtime.LockOSThread() // until the thread ends with the test's goroutine
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	attrs := func(name string) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name = name
		return a
	}
	pair := &netlink.Veth{LinkAttrs: attrs("lower"), PeerName: "peer"}
	add(t, pair)
	upper := &netlink.Macvlan{LinkAttrs: attrs("nic0"), Mode: netlink.MACVLAN_MODE_PRIVATE}
	upper.ParentIndex = indexOf(t, "lower")
	upper.HardwareAddr = nicMAC[:]
	for _, name := range []string{"lower", "peer"} {
		up(t, name)
	}
	add(t, upper)
	up(t, "nic0")
	m, err := host.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	dev, err := m.OpenNIC("nic0", [config.Families]netip.Prefix{
		netip.MustParsePrefix(pseudo + "/24"), netip.MustParsePrefix(dualPseudo + "/64"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dev.Close() })
	raw, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(raw) })
	peer := &unix.SockaddrLinklayer{Ifindex: indexOf(t, "peer")}
	return dev.(*host.OwnedNIC), func(frame []byte) {
		if err := unix.Sendto(raw, frame, 0, peer); err != nil {
			t.Fatal(err)
		}
	}
}

func add(t *testing.T, l netlink.Link) {
	t.Helper()
	if err := netlink.LinkAdd(l); err != nil {
		t.Fatalf("%s: %v", l.Type(), err)
	}
}

func indexOf(t *testing.T, device string) int {
	t.Helper()
	l, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

func up(t *testing.T, device string) {
	t.Helper()
	l, err := netlink.LinkByName(device)
	if err == nil {
		// The host's own IPv6 would join the groups of its addresses.
		err = os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/disable_ipv6", []byte("1"), 0)
	}
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Row A9: the NIC takes the frames of a multicast group from Join to Leave, also while its
// socket does not listen, and never becomes promiscuous.
func TestMulticastMembership(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can make devices")
	}
	nic, send := openMacvlan(t)
	received := make(chan bool, iface.BatchSize) // whether the frame is a solicitation
	go func() {
		batch := make([]packet.Frame, iface.BatchSize)
		for {
			n, err := nic.Receive(batch)
			if err != nil {
				close(received)
				return
			}
			for _, f := range batch[:n] {
				received <- f.EtherType() == packet.EtherIPv6
			}
		}
	}()
	// arrives tells whether a solicitation of the pseudo address arrives. Broadcasts take the
	// same way behind it.
	arrives := func() bool {
		t.Helper()
		send(rawNDP(135, dualStranger, dualGroup, dualPseudo))
		send(arp(true, hostMAC, otherHost, config.MAC{}, pseudo))
		solicited := false
		for {
			select {
			case is := <-received:
				if !is {
					return solicited
				}
				solicited = true
			case <-time.After(5 * time.Second):
				t.Fatal("the broadcast did not arrive")
			}
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if arrives() {
		t.Error("a solicitation arrives, but the NIC has not joined its group")
	}
	do(nic.Join(dualGroupMAC))
	if !arrives() {
		t.Error("no solicitation arrives, but the NIC has joined its group")
	}
	do(nic.Listen(false))
	if !inGroup(t, "nic0", dualGroupMAC) {
		t.Error("the socket does not listen, and the NIC has left the group")
	}
	do(nic.Listen(true))
	if !arrives() {
		t.Error("no solicitation arrives after the socket did not listen for a while")
	}
	l, err := netlink.LinkByName("nic0")
	do(err)
	if a := l.Attrs(); a.Promisc != 0 || a.RawFlags&(unix.IFF_PROMISC|unix.IFF_ALLMULTI) != 0 {
		t.Errorf("the NIC is promiscuous %d times, its flags are %x", a.Promisc, a.RawFlags)
	}
	do(nic.Leave(dualGroupMAC))
	if inGroup(t, "nic0", dualGroupMAC) {
		t.Error("the NIC has left the group, and is in it still")
	}
	do(nic.Join(config.MAC{0x33, 0x33, 0, 0, 0, 1})) // a macvlan filters anew only now
	if arrives() {
		t.Error("the NIC has left the group, and a solicitation arrives")
	}
	do(nic.Join(dualGroupMAC))
	do(nic.Close())
	if inGroup(t, "nic0", dualGroupMAC) {
		t.Error("the NIC is closed, and in the group still")
	}
	if err := nic.Join(dualGroupMAC); err == nil {
		t.Error("a closed NIC joins a group")
	}
}

// inGroup tells whether a device takes the frames to a multicast MAC, according to the kernel.
func inGroup(t *testing.T, device string, group config.MAC) bool {
	t.Helper()
	list, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) { // index, device, users, global, MAC
		if f := strings.Fields(line); len(f) == 5 && f[1] == device && f[4] == strings.ReplaceAll(group.String(), ":", "") {
			return true
		}
	}
	return false
}
