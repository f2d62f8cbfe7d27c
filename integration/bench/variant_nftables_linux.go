package main

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/caddy-vnic/caddy-vnic/integration/netlab"
)

// nftablesConfig rewrites addresses as the bridge does. The server's address is local, so
// packets cross no second device and are not forwarded: this is the best case for nftables.
const nftablesConfig = `table %[1]s nat
delete table %[1]s nat
table %[1]s nat {
	chain prerouting {
		type nat hook prerouting priority dstnat
		%[1]s daddr %[2]s dnat to %[3]s
	}
	chain input {
		type nat hook input priority 100
		iifname nic0 %[1]s daddr %[3]s snat to %[4]s
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
		Dst: netlab.IPNet(s.inner.Masked()),
	}
	if err := s.server.Netlink().RouteAdd(route); err != nil {
		return err
	}
	family := "ip"
	if s.is6() {
		family = "ip6"
	}
	config, err := s.write("nat.nft", fmt.Sprintf(nftablesConfig, family, s.public.Addr(), s.inner.Addr(), s.aliases))
	if err != nil {
		return err
	}
	s.reload = func(ctx context.Context) error {
		_, err := s.server.Run(ctx, "nft", "-f", config)
		return err
	}
	return s.reload(ctx)
}
