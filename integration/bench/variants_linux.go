package main

import "context"

// variant is one way to bring a client's packets to a server.
type variant struct {
	VariantInfo
	tools   []string // programs that it needs
	bareNIC bool     // the NIC has no address of its own
	netns   bool     // the servers run in a network namespace of their own
	limits  bool     // the segment has limits, which are not reached
	aside   bool     // it shows what an option costs, so captures and the full table are not measured
	noUDP   bool     // it carries TCP alone
	noFlows bool     // it keeps no state of UDP flows, so opening them is not measured
	level   int      // how many flows fill its flow table; 0: only those of the probes

	ipv4Only bool

	// start starts the variant. Afterwards servers can bind the site's inner address.
	start func(context.Context, *site) error
}

// bridgeVariants bring packets to one segment. The baseline comes first.
var bridgeVariants = []variant{
	{
		VariantInfo: VariantInfo{Name: baseline},
		start:       startDirect,
	},
	{
		VariantInfo: VariantInfo{Name: "kernel", Ours: true},
		bareNIC:     true,
		start:       startBridge("kernel"),
	},
	{
		VariantInfo: VariantInfo{Name: oursInNetns, Ours: true},
		bareNIC:     true, netns: true, aside: true,
		start: startBridge("kernel"),
	},
	{
		VariantInfo: VariantInfo{Name: oursWithBans, Ours: true},
		bareNIC:     true, aside: true, ipv4Only: true,
		start: startWithBans,
	},
	{
		VariantInfo: VariantInfo{Name: oursWithLimits, Ours: true},
		bareNIC:     true, limits: true, aside: true, ipv4Only: true,
		start: startBridge("kernel"),
	},
	{
		VariantInfo: VariantInfo{Name: "userspace", Ours: true},
		bareNIC:     true,
		start:       startBridge("userspace"),
	},
	{
		VariantInfo: VariantInfo{Name: "redirect"},
		bareNIC:     true, noFlows: true, ipv4Only: true,
		start: startRedirect,
	},
	{
		VariantInfo: VariantInfo{Name: "plain"},
		bareNIC:     true, noFlows: true, ipv4Only: true,
		start: startPlain,
	},
	{
		VariantInfo: VariantInfo{Name: "nftables"},
		tools:       []string{"nft"},
		start:       startNftables,
	},
	{
		VariantInfo: VariantInfo{Name: "haproxy"},
		tools:       []string{"haproxy"}, noUDP: true,
		start: startHAProxy,
	},
	{
		VariantInfo: VariantInfo{Name: "nginx"},
		tools:       []string{"nginx"},
		start:       startNginxStream,
	},
}

// startDirect has nothing to start: the server listens on the NIC's address.
func startDirect(_ context.Context, s *site) error {
	s.listensOn = s.public.Addr()
	return nil
}
