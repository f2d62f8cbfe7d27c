package vnicbridge

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

func TestValidate(t *testing.T) {
	if err := paperConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	seg := func(change func(*config.Segment)) func(*config.Config) {
		return func(c *config.Config) { change(c.Segments["b"]) }
	}
	br := func(change func(*config.Bridge)) func(*config.Config) {
		return func(c *config.Config) { change(c.Bridges["lan"]) }
	}
	for _, tc := range []struct {
		name   string
		change func(*config.Config)
		part   string // of the ConfigError
		says   string
	}{
		{"datapath", func(c *config.Config) { c.Datapath = "fast" }, "", "want auto, kernel or userspace"},
		{"max_flows", func(c *config.Config) { c.MaxFlows = -1 }, "", "max_flows -1"},
		{"null segment beside others", func(c *config.Config) { c.Segments["c"] = nil }, "segment", "segment c: the definition is null"},
		{"null bridge beside another", func(c *config.Config) { c.Bridges["two"] = nil }, "bridge", "bridge two: the definition is null"},
		{"no address", seg(func(s *config.Segment) { s.Addresses = nil }), "segment", "address is missing"},
		{"network address", seg(func(s *config.Segment) { s.Addresses = prefixes("192.168.60.0/24") }), "segment", "first host is 192.168.60.1"},
		{"broadcast address", seg(func(s *config.Segment) { s.Addresses = prefixes("192.168.60.255/24") }), "segment", "broadcast"},
		{"overlap", seg(func(s *config.Segment) { s.Addresses = prefixes("192.168.50.9/16") }), "segment", "overlaps segment a's"},
		{"overlap with the NIC", seg(func(s *config.Segment) { s.Addresses = prefixes("192.168.1.9/24") }), "bridge", "overlaps segment b's"},
		{"long name", seg(func(s *config.Segment) { s.Interface = "vnic-marketing-1" }), "segment", "at most 15"},
		{"name with a slash", seg(func(s *config.Segment) { s.Interface = "vnic/b" }), "segment", "not a device name"},
		{"same interface", seg(func(s *config.Segment) { s.Interface = "vnic-A" }), "segment", "segment a's already"},
		{"group MAC", seg(func(s *config.Segment) { s.MAC = mustMAC("01:00:5e:00:00:01") }), "segment", "unicast"},
		{"no aliases", seg(func(s *config.Segment) { s.Addresses = prefixes("192.168.60.1/32") }), "segment", "at least one"},
		{"aliases elsewhere", seg(func(s *config.Segment) {
			s.Aliases = config.AddrRange{First: mustIP("192.168.61.2"), Last: mustIP("192.168.61.9")}
		}), "segment", "not in the segment's network"},
		{"only its own address as alias", seg(func(s *config.Segment) { s.Aliases = config.AddrRange{First: mustIP(serverB), Last: mustIP(serverB)} }), "segment", "no address is left"},
		{"egress", seg(func(s *config.Segment) { s.Egress = "everything" }), "segment", "want off, gateway or any"},
		{"limit flows", seg(func(s *config.Segment) { s.Limits.Flows = -1 }), "segment", "limit flows -1: want"},
		{"limit rate", seg(func(s *config.Segment) { s.Limits.Rate = 100 }), "segment", "want 8000 to 1000000000000 bits a second"},
		{"burst", seg(func(s *config.Segment) { s.Limits = config.Limits{Rate: 8000, Burst: -1} }), "segment", "want at most 1073741824"},
		{"burst alone", seg(func(s *config.Segment) { s.Limits.Burst = 1000 }), "segment", "set the rate, too"},
		{"egress without gateway", func(c *config.Config) {
			c.Segments["b"].Egress = config.EgressAny
			c.Bridges["lan"].Gateways = nil
		}, "segment", "no IPv4 gateway"},
		{"egress any without a bridge", func(c *config.Config) {
			c.Segments["b"].Egress = config.EgressAny
			c.Bridges["lan"].LBPolicy.Segments = []string{"a"}
		}, "segment", "no bridge names"},
		{"reach nowhere", seg(func(s *config.Segment) { s.Reach = []string{"z"} }), "segment", `unknown segment "z"`},
		{"reach itself", seg(func(s *config.Segment) { s.Reach = []string{"b"} }), "segment", "itself"},
		{"reach twice", seg(func(s *config.Segment) { s.Reach = []string{"a", "a"} }), "segment", "named twice"},
		{"too few aliases to reach", func(c *config.Config) {
			c.Segments["a"].Aliases = config.AddrRange{First: mustIP(routerOnA), Last: mustIP(routerOnA)}
			c.Segments["b"].Reach = []string{"a"}
		}, "segment", "too few"},
		{"default_route without egress", seg(func(s *config.Segment) { s.DefaultRoute = true }), "segment", "needs egress any"},
		{"two default routes", func(c *config.Config) {
			for _, s := range c.Segments {
				s.DefaultRoute, s.Egress = true, config.EgressAny
			}
		}, "segment", "segment a has it already"},
		{"no NIC", br(func(b *config.Bridge) { b.NIC = "" }), "bridge", "nic is missing"},
		{"VNIC as NIC", br(func(b *config.Bridge) { b.NIC = "vnic-A" }), "bridge", "VNIC of segment a"},
		{"gateway elsewhere", br(func(b *config.Bridge) { b.Gateways = []netip.Addr{mustIP("192.168.2.1")} }), "bridge", "not in the network"},
		{"gateway is the pseudo address", br(func(b *config.Bridge) { b.Gateways = []netip.Addr{mustIP(pseudo)} }), "bridge", "pseudo address itself"},
		{"no policy", br(func(b *config.Bridge) { b.LBPolicy = nil }), "bridge", "neither steer nor lb_policy"},
		{"unknown policy", br(func(b *config.Bridge) { b.LBPolicy.Policy = "best" }), "bridge", "want first, round_robin"},
		{"unknown segment", br(func(b *config.Bridge) { b.LBPolicy.Segments = []string{"a", "z"} }), "bridge", `unknown segment "z": the configuration has a, b`},
		{"segment twice", br(func(b *config.Bridge) { b.LBPolicy.Segments = []string{"a", "a"} }), "bridge", "named twice"},
		{"steer without matcher", br(func(b *config.Bridge) { b.Steer = []config.Rule{{Segment: "a"}} }), "bridge", "no matcher"},
		{"steer to nowhere", br(func(b *config.Bridge) {
			b.Steer = []config.Rule{{Segment: "q", Protocols: []config.Protocol{config.TCP}}}
		}), "bridge", `unknown segment "q"`},
		{"dad", br(func(b *config.Bridge) { b.DAD = "maybe" }), "bridge", "want on or off"},
		{"on_no_segment", br(func(b *config.Bridge) { b.OnNoSegment = "panic" }), "bridge", "want reject or drop"},
		{"address twice", func(c *config.Config) {
			second := *c.Bridges["lan"]
			second.NIC = "nic1"
			c.Bridges["two"] = &second
		}, "bridge", "192.168.1.2 is bridge lan's already"},
		{"NIC twice", func(c *config.Config) {
			second := *c.Bridges["lan"]
			second.Addresses, second.Gateways = prefixes("192.168.1.3/24"), nil
			c.Bridges["two"] = &second
		}, "bridge", "bridge lan's already"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := paperConfig()
			tc.change(cfg)
			err := cfg.Validate()
			var where *config.Error
			if !errors.As(err, &where) || where.Part != tc.part || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("the error is %v, want one of a %s that says %q", err, tc.part, tc.says)
			}
		})
	}
}

func mustIP(s string) netip.Addr { return netip.MustParseAddr(s) }

// A configuration is the same after it was written and read.
func TestConfigAsJSON(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Aliases = config.AddrRange{First: mustIP(routerOnA), Last: mustIP("192.168.50.99")}
	cfg.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.UDP, First: 5000, Last: 5010}, config.AnyPort}
	cfg.Bridges["lan"].Steer = []config.Rule{{Segment: "a", Protocols: []config.Protocol{config.ICMP}, Clients: prefixes("10.0.0.0/8")}}
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var back config.Config
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	again, _ := json.Marshal(&back)
	if string(again) != string(text) {
		t.Errorf("%s became %s", text, again)
	}
}

// The default MAC is locally administered, unicast, and the same every time.
func TestDefaultMAC(t *testing.T) {
	var s config.Segment
	mac := s.HardwareAddr("vnic-a")
	if mac[0]&3 != 2 || mac != s.HardwareAddr("vnic-a") || mac == s.HardwareAddr("vnic-b") {
		t.Errorf("%s", mac)
	}
}
