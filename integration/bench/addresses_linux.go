package main

import (
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/integration/paper"
)

// addresses are those of every network of a suite, all of one family.
type addresses struct {
	gateway netip.Prefix // the client, so that only the cable and the variant are before the server
	public  netip.Prefix // where clients reach the server
	inner   netip.Prefix // of the server behind a variant
	other   netip.Prefix // of another group, which no client uses
	front   netip.Prefix // of the segment that passes requests on by path
	alias   netip.Addr   // under which the server sees the client
	aliases string       // the range of such addresses, as nftables writes it
	more    netip.Addr   // the first of the client's additional addresses
}

var ipv4 = addresses{
	gateway: netip.PrefixFrom(paper.RouterAddr, 24),
	public:  netip.PrefixFrom(paper.PseudoAddr, 24),
	inner:   netip.MustParsePrefix("192.168.50.1/24"),
	other:   netip.MustParsePrefix("192.168.60.1/24"),
	front:   netip.MustParsePrefix("192.168.40.1/24"),
	alias:   netip.MustParseAddr("192.168.50.2"),
	aliases: "192.168.50.2-192.168.50.254",
	more:    netip.MustParseAddr("192.168.1.101"),
}

var ipv6 = addresses{
	gateway: netip.PrefixFrom(paper.RouterAddr6, 64),
	public:  netip.PrefixFrom(paper.PseudoAddr6, 64),
	inner:   netip.MustParsePrefix("fd00:50::1/64"),
	other:   netip.MustParsePrefix("fd00:60::1/64"),
	front:   netip.MustParsePrefix("fd00:40::1/64"),
	alias:   netip.MustParseAddr("fd00:50::2"),
	aliases: "fd00:50::2-fd00:50::fe",
	more:    netip.MustParseAddr("2001:db8:1::101"),
}

func (a addresses) is6() bool { return a.public.Addr().Is6() }

// clientAddrs is how many addresses the client has in addition to its own, as sources of
// flows. Each allows as many flows as it has ports.
const clientAddrs = 20

// moreClients returns the client's additional addresses.
func (a addresses) moreClients() (all []netip.Addr) {
	for next := a.more; len(all) < clientAddrs; next = next.Next() {
		all = append(all, next)
	}
	return all
}
