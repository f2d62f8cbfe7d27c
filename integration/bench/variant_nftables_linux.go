package main

import (
	"context"
	"net"

	"github.com/vishvananda/netlink"
)

// nftablesConfig rewrites addresses as the bridge does. The server's address is local, so
// packets cross no second device and are not forwarded: this is the best case for nftables.
const nftablesConfig = `table ip nat
delete table ip nat
table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat
		ip daddr 192.168.1.2 dnat to 192.168.50.1
	}
	chain input {
		type nat hook input priority 100
		iifname nic0 ip daddr 192.168.50.1 snat to 192.168.50.2-192.168.50.254
	}
}
`

func startNftables(ctx context.Context, s *site) error {
	if err := s.addInner(); err != nil {
		return err
	}
	lo, err := s.server.Netlink().LinkByName("lo")
	if err != nil {
		return err
	}
	// The kernel looks up a route for answers to the alias before the NAT changes their
	// destination.
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: innerNet.Addr().AsSlice(), Mask: net.CIDRMask(innerNet.Bits(), 32)},
	}
	if err := s.server.Netlink().RouteAdd(route); err != nil {
		return err
	}
	config, err := s.write("nat.nft", nftablesConfig)
	if err != nil {
		return err
	}
	s.reload = func(ctx context.Context) error {
		_, err := s.server.Run(ctx, "nft", "-f", config)
		return err
	}
	return s.reload(ctx)
}
