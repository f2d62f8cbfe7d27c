package paper

import (
	"errors"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// SecondLAN is the other local network of the paper's Fig-19, on a second NIC of
// the server:
//
//	PC2 192.168.20.2 ── 192.168.20.1 router2 192.168.2.1 ── nic1 (no address) server
//
// Its devices have the names that their counterparts in the first have.
type SecondLAN struct {
	PC2, Router2 *netlab.Host
}

// AddLAN gives the server a second NIC with a network of its own. With nat its
// router, too, gives its own address to what it forwards to the server.
func (p *Network) AddLAN(nat bool) (*SecondLAN, error) {
	pc, err := p.NewHost("pc2")
	if err != nil {
		return nil, err
	}
	router, err := p.NewHost("router2")
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		p.Link(
			netlab.End{Host: pc, Device: PC1Device, Address: netip.PrefixFrom(PC2Addr, 24), V6: ipv6(p.opts, PC2Addr6)},
			netlab.End{Host: router, Device: RouterLANDevice, Address: netip.PrefixFrom(Router2LANAddr, 24), V6: ipv6(p.opts, Router2LANAddr6)}),
		p.Link(
			netlab.End{
				Host: router, Device: RouterWANDevice, MAC: Router2MAC,
				Address: netip.PrefixFrom(Router2Addr, 24), V6: ipv6(p.opts, Router2Addr6, RouterLinkLocal),
			},
			netlab.End{Host: p.Server, Device: NIC2Device, MAC: NIC2MAC}),
	)
	if err == nil {
		err = errors.Join(pc.DefaultRoute(Router2LANAddr), router.Sysctl("net/ipv4/ip_forward", "1"))
	}
	if err == nil && p.opts.IPv6 {
		err = errors.Join(
			pc.DefaultRoute(Router2LANAddr6),
			router.Sysctl("net/ipv6/conf/all/forwarding", "1"),
			p.Server.Sysctl("net/ipv6/conf/"+NIC2Device+"/disable_ipv6", "1"))
	}
	if err == nil && nat {
		err = router.Masquerade(RouterWANDevice)
	}
	if err != nil {
		return nil, err
	}
	return &SecondLAN{PC2: pc, Router2: router}, nil
}
