package paper

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// Network is the network of the paper's Fig-1:
//
//	PC1 192.168.10.2 ── 192.168.10.1 router 192.168.1.1 ── nic0 (no address) server
//
// It grows by NewHost and Link: a second NIC of the server, say, is a link from
// Server to a host of another network.
type Network struct {
	*netlab.Network
	opts                NetworkOptions
	PC1, Router, Server *netlab.Host

	// Neighbours are further hosts on the link between router and server.
	Neighbours []*netlab.Host
	Switch     *netlab.Host // that joins them; its bridge is br0, its ports to-<host>; nil without neighbours
}

// NetworkOptions vary the paper's network.
type NetworkOptions struct {
	NAT        bool // the router gives its own address to what it forwards to the server
	NoOffloads bool // no checksum or segmentation offload on any link
	Neighbours int  // hosts 192.168.1.11, .12 and so on, joined to router and server by a switch; at most 200

	// IPv6 gives every device an IPv6 address beside the other, 2001:db8:1::11 to the first
	// neighbour, except the server's NIC: IPv6 stays off there, as nothing of the host's is on a
	// bare NIC, and is on for the server's other devices.
	IPv6 bool
}

// NewNetwork builds the paper's network under a name that must be free.
// The caller closes it.
func NewNetwork(name string, opts NetworkOptions) (*Network, error) {
	network, err := netlab.NewNetwork(name)
	if err != nil {
		return nil, err
	}
	p := &Network{Network: network, opts: opts}
	if err := p.build(opts); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Network) build(opts NetworkOptions) error {
	for _, h := range []struct {
		name string
		host **netlab.Host
	}{{"pc1", &p.PC1}, {"router", &p.Router}, {"server", &p.Server}} {
		host, err := p.NewHost(h.name)
		if err != nil {
			return err
		}
		*h.host = host
	}
	err := p.link(opts,
		netlab.End{Host: p.PC1, Device: PC1Device, Address: netip.PrefixFrom(PC1Addr, 24), V6: ipv6(opts, PC1Addr6)},
		netlab.End{Host: p.Router, Device: RouterLANDevice, Address: netip.PrefixFrom(RouterLANAddr, 24), V6: ipv6(opts, RouterLANAddr6)})
	if err != nil {
		return err
	}
	if err := p.linkServer(opts); err != nil {
		return err
	}
	if err := p.PC1.DefaultRoute(RouterLANAddr); err != nil {
		return err
	}
	if err := p.Router.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if opts.IPv6 {
		if err := p.routeIPv6(); err != nil {
			return err
		}
	}
	if opts.NAT {
		return p.Router.Masquerade(RouterWANDevice)
	}
	return nil
}

// ipv6 are addresses with the prefix length of a link, or none in a network without IPv6.
func ipv6(opts NetworkOptions, addresses ...netip.Addr) (prefixes []netip.Prefix) {
	if !opts.IPv6 {
		return nil
	}
	for _, a := range addresses {
		prefixes = append(prefixes, netip.PrefixFrom(a, 64))
	}
	return prefixes
}

// routeIPv6 makes the router forward, and the server's kernel speak IPv6 on devices that are
// made from now on.
func (p *Network) routeIPv6() error {
	err := errors.Join(
		p.PC1.DefaultRoute(RouterLANAddr6),
		p.Router.Sysctl("net/ipv6/conf/all/forwarding", "1"),
		p.Server.EnableIPv6())
	for _, h := range p.Neighbours {
		err = errors.Join(err, h.DefaultRoute(RouterAddr6))
	}
	return err
}

// linkServer joins router and server, by a cable or, where they have
// neighbours, by a switch.
func (p *Network) linkServer(opts NetworkOptions) error {
	ports := []netlab.End{
		{
			Host: p.Router, Device: RouterWANDevice, MAC: RouterMAC,
			Address: netip.PrefixFrom(RouterAddr, 24), V6: ipv6(opts, RouterAddr6, RouterLinkLocal),
		},
		{Host: p.Server, Device: NICDevice, MAC: NICMAC},
	}
	if opts.Neighbours == 0 {
		return p.link(opts, ports[0], ports[1])
	}
	for i := range opts.Neighbours {
		host, err := p.NewHost(fmt.Sprintf("host%d", i+1))
		if err != nil {
			return err
		}
		p.Neighbours = append(p.Neighbours, host)
		address := netip.AddrFrom4([4]byte{192, 168, 1, byte(11 + i)})
		ports = append(ports, netlab.End{
			Host: host, Device: "eth0", Address: netip.PrefixFrom(address, 24), V6: ipv6(opts, NeighbourAddr6(i)),
		})
	}
	lan, err := p.NewHost("switch")
	if err != nil {
		return err
	}
	var names []string
	for _, port := range ports {
		name := "to-" + port.Host.Name()
		if err := p.link(opts, port, netlab.End{Host: lan, Device: name}); err != nil {
			return err
		}
		names = append(names, name)
	}
	p.Switch = lan
	return lan.Bridge("br0", names...)
}

// NeighbourAddr6 is the IPv6 address of the i-th neighbour, from 0.
func NeighbourAddr6(i int) netip.Addr {
	raw := RouterAddr6.As16()
	raw[15] = byte(0x11 + i)
	return netip.AddrFrom16(raw)
}

func (p *Network) link(opts NetworkOptions, a, b netlab.End) error {
	if err := p.Link(a, b); err != nil || !opts.NoOffloads {
		return err
	}
	return errors.Join(a.Host.SetOffloads(a.Device, false), b.Host.SetOffloads(b.Device, false))
}
