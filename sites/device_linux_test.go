package sites_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

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
	at := sites.Address{Segment: "a", Local: netip.MustParseAddrPort("192.168.50.1:80")}
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
		c, err := host.DialContext(t.Context(), "tcp", at.Local.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		accept(t, l)

		deleteDevice(t, host)
		if c, err := host.DialContext(t.Context(), "tcp", at.Local.String()); err == nil {
			c.Close()
			t.Fatal("the address is reached without its device")
		}
		makeDevice(t, host)
	}
}

const deviceName = "vnic-a"

// makeDevice makes a device with the segment's address. The kind of device does not matter.
func makeDevice(t *testing.T, host *netlab.Host) {
	t.Helper()
	device := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: deviceName}, PeerName: "peer"}
	if err := host.Netlink().LinkAdd(device); err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("192.168.50.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Netlink().AddrAdd(device, addr); err != nil {
		t.Fatal(err)
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
