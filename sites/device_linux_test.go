package sites_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
	"github.com/caddy-vnic/caddy-vnic/sites"
)

// TestListenerOutlivesItsDevice checks that a listener serves again when a VNIC that somebody
// has deleted is back, with its address.
func TestListenerOutlivesItsDevice(t *testing.T) {
	network, err := netlab.NewNetwork("sites")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close() })
	host, err := network.NewHost("server")
	if err != nil {
		t.Fatal(err)
	}
	at := sites.Address{Segment: "a", Port: 80}
	for _, own := range deviceAddrs {
		at.Addrs = append(at.Addrs, netip.MustParsePrefix(own).Addr())
	}
	for _, device := range []string{"lo", "default"} { // netlab switches IPv6 off
		if err := host.Sysctl("net/ipv6/conf/"+device+"/disable_ipv6", "0"); err != nil {
			t.Fatal(err)
		}
	}
	makeDevice(t, host)

	var l net.Listener
	err = host.Do(func() error {
		l, err = sites.NewSockets(new(planeStub)).Listen(context.Background(), at, net.ListenConfig{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		for _, addr := range at.Addrs {
			dialSoon(t, host, netip.AddrPortFrom(addr, at.Port))
			accept(t, l)
		}
		deleteDevice(t, host)
		for _, addr := range at.Addrs {
			if c, err := host.DialContext(t.Context(), "tcp", netip.AddrPortFrom(addr, at.Port).String()); err == nil {
				c.Close()
				t.Fatalf("%s is reached without its device", addr)
			}
		}
		makeDevice(t, host)
	}
}

// dialSoon connects to an address of the host. The kernel makes the route to an IPv6 address
// a moment after the address.
func dialSoon(t *testing.T, host *netlab.Host, to netip.AddrPort) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for {
		c, err := host.DialContext(t.Context(), "tcp", to.String())
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return
		}
		if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) || time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

const deviceName = "vnic-a"

var deviceAddrs = []string{"192.168.50.1/24", "fd00:50::1/64"}

// makeDevice makes a device with the segment's addresses. The kind of device does not matter.
func makeDevice(t *testing.T, host *netlab.Host) {
	t.Helper()
	device := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: deviceName}, PeerName: "peer"}
	if err := host.Netlink().LinkAdd(device); err != nil {
		t.Fatal(err)
	}
	for _, own := range deviceAddrs {
		addr, err := netlink.ParseAddr(own)
		if err != nil {
			t.Fatal(err)
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := host.Netlink().AddrAdd(device, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.Netlink().LinkSetUp(device); err != nil {
		t.Fatal(err)
	}
}

func deleteDevice(t *testing.T, host *netlab.Host) {
	t.Helper()
	device, err := host.Netlink().LinkByName(deviceName)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Netlink().LinkDel(device); err != nil {
		t.Fatal(err)
	}
}
