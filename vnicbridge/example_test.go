package vnicbridge_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// paper is the paper's system: two segments behind one NIC.
func paper() *config.Config {
	return &config.Config{
		Segments: map[string]*config.Segment{
			"a": {Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24")}, Ports: []config.PortRange{config.AnyPort}},
			"b": {Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.60.1/24")}},
		},
		Bridges: map[string]*config.Bridge{
			"lan": {
				NIC:       "eth1",
				Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.1.2/24")},
				Gateways:  []netip.Addr{netip.MustParseAddr("192.168.1.1")},
				LBPolicy:  &config.Policy{Policy: config.PolicyFirst, Segments: []string{"a", "b"}},
			},
		},
	}
}

// A plane carries packets between a NIC and segments until it is closed. It takes
// root, or capabilities, and the NIC, so this example is compiled and not run.
func ExamplePlane() {
	plane := vnicbridge.New(vnicbridge.Options{Log: slog.Default()})
	defer plane.Close()
	cfg := paper()
	if err := plane.Apply(cfg); err != nil {
		fmt.Println(err) // says what the machine lacks, and the fix
		return
	}
	// Another configuration takes the place of the first, and flows stay.
	next := paper()
	next.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin
	if err := plane.Apply(next); err != nil {
		fmt.Println(err)
	}
	fmt.Println(plane.Status().Segments["a"].NewFlows)
}

// A configuration can be checked anywhere, before it is put in force.
func ExampleConfig_Validate() {
	cfg := paper()
	fmt.Println(cfg.Validate())

	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a", "c"}
	err := cfg.Validate()
	fmt.Println(err)
	var where *config.Error
	fmt.Println(errors.As(err, &where))
	// Output:
	// <nil>
	// bridge lan: lb_policy first: unknown segment "c": the configuration has a, b
	// true
}

// A segment that may reach another sees it under an alias, which follows from the
// names alone.
func ExampleConfig_PeerAlias() {
	cfg := paper()
	cfg.Segments["a"].Reach = []string{"b"}
	alias, ok := cfg.PeerAlias("a", "b", config.IPv4)
	fmt.Println(netip.MustParsePrefix("192.168.50.0/24").Contains(alias), ok)
	// Output: true true
}

// A configuration has the same form in JSON as under apps.vnic in Caddy's.
func ExampleConfig() {
	var cfg config.Config
	err := json.Unmarshal([]byte(`{
		"segments": {"a": {"addresses": ["192.168.50.1/24", "fd00:50::1/64"], "ports": ["tcp/80", "udp/5000-5010"]}},
		"bridges": {"lan": {"nic": "eth1", "addresses": ["192.168.1.2/24", "2001:db8:1::2/64"], "gateways": ["192.168.1.1", "fe80::1"],
			"lb_policy": {"policy": "first", "segments": ["a"]}}}
	}`), &cfg)
	fmt.Println(err, cfg.Validate())
	fmt.Println(cfg.Segments["a"].InterfaceName("a"), cfg.Segments["a"].Ports)
	fmt.Println(cfg.Segments["a"].Subnet(config.IPv6), cfg.Bridges["lan"].Gateway(config.IPv6))
	// Output:
	// <nil> <nil>
	// vnic-a [tcp/80 udp/5000-5010]
	// fd00:50::/64 fe80::1
}

func ExampleParsePortRange() {
	ports, err := config.ParsePortRange("tcp/8000-8099")
	fmt.Println(ports.Contains(config.TCP, 8080), ports.Contains(config.UDP, 8080), err)
	_, err = config.ParsePortRange("80")
	fmt.Println(err)
	// Output:
	// true false <nil>
	// port "80": want tcp/<port>, udp/<port>, a range such as tcp/8000-8099, or any
}

func ExampleParseAddrRange() {
	aliases, err := config.ParseAddrRange("192.168.50.2-192.168.50.254")
	fmt.Println(aliases, aliases.Contains(netip.MustParseAddr("192.168.50.7")), err)
	// Output: 192.168.50.2-192.168.50.254 true <nil>
}
