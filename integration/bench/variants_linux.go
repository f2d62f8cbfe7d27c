package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// variant is one way to bring a client's packets to a server.
type variant struct {
	VariantInfo
	tools   []string // programs that it needs
	bareNIC bool     // the NIC has no address of its own
	noUDP   bool     // it carries TCP alone
	noFlows bool     // it keeps no state of UDP flows, so opening them costs nothing

	// start starts it. Then the site's inner address can be bound.
	start func(context.Context, *site) error
}

// variants are all there are; the baseline comes first.
var variants = []variant{
	{
		VariantInfo: VariantInfo{Name: baseline, Title: "direct: the NIC has the address itself"},
		start:       startDirect,
	},
	{
		VariantInfo: VariantInfo{Name: "userspace", Title: "caddy-vnic, userspace data path", Ours: true},
		bareNIC:     true,
		start:       startUserspace,
	},
	{
		VariantInfo: VariantInfo{Name: "plain", Title: "plain bridge, one packet per system call, no offloads"},
		bareNIC:     true, noFlows: true,
		start: startPlain,
	},
	{
		VariantInfo: VariantInfo{Name: "nftables", Title: "nftables, DNAT and SNAT"},
		tools:       []string{"nft"},
		start:       startNftables,
	},
	{
		VariantInfo: VariantInfo{Name: "haproxy", Title: "haproxy, TCP mode"},
		tools:       []string{"haproxy"}, noUDP: true,
		start: startHAProxy,
	},
	{
		VariantInfo: VariantInfo{Name: "nginx", Title: "nginx, stream proxy"},
		tools:       []string{"nginx"},
		start:       startNginxStream,
	},
}

// choose returns the baseline and the variants of the names, all of them for
// none.
func choose(names []string) ([]variant, error) {
	if len(names) == 0 {
		return variants, nil
	}
	chosen := slices.DeleteFunc(slices.Clone(variants), func(v variant) bool {
		return v.Name != baseline && !slices.Contains(names, v.Name)
	})
	for _, name := range names {
		if !slices.ContainsFunc(chosen, func(v variant) bool { return v.Name == name }) {
			return nil, fmt.Errorf("no variant %q: there are %s", name, variantNames())
		}
	}
	return chosen, nil
}

func variantNames() string {
	var names []string
	for _, v := range variants {
		names = append(names, v.Name)
	}
	return strings.Join(names, ", ")
}

// startDirect has nothing to start: the server listens on the NIC's address.
func startDirect(_ context.Context, s *site) error {
	s.inner = publicAddr
	return nil
}
