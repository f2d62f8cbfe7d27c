package config

import (
	"net/netip"
	"slices"
	"testing"
)

func TestUnserved(t *testing.T) {
	http, https, dns, ssh := PortRange{TCP, 80, 80}, PortRange{TCP, 443, 443}, PortRange{UDP, 53, 53}, PortRange{TCP, 22, 22}
	lan := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	policy := func(segments ...string) *Policy { return &Policy{Policy: "round_robin", Segments: segments} }
	const (
		nothing = "segment a: no bridge gives it flows, and no segment may reach it: nothing from outside reaches it"
		closed  = "segment a: it gets flows from bridge lan and opens no port, so it refuses them: give it a site (`bind vnic/a`), or name its server's ports in `ports`"
		missed  = "segment a: a server listens on tcp/443, which bridge lan does not let in: no client reaches it; name the port in `steer a`"
		noSSH   = "segment a: a server listens on tcp/22, which bridge lan does not let in: no client reaches it; name the port in `steer a`"
	)
	for name, test := range map[string]struct {
		a      Segment
		b      []string // what segment b may reach
		steer  []Rule
		policy *Policy
		listen []PortRange // on a
		want   []string
	}{
		"nobody":                       {want: []string{nothing}},
		"policy":                       {policy: policy("a"), listen: []PortRange{http}},
		"policy, closed":               {policy: policy("a"), want: []string{closed}},
		"policy, ports":                {policy: policy("a"), a: Segment{Ports: []PortRange{AnyPort}}},
		"steer, closed":                {steer: []Rule{{Segment: "a", Ports: []PortRange{http}}}, want: []string{closed}},
		"steer of pings":               {steer: []Rule{{Segment: "a", Protocols: []Protocol{ICMP}}}},
		"steer of all but pings":       {steer: []Rule{{Segment: "a", Protocols: []Protocol{ICMP, UDP}}}, want: []string{closed}},
		"steer by client":              {steer: []Rule{{Segment: "a", Clients: lan}}, listen: []PortRange{https}},
		"steer, HTTP alone":            {steer: []Rule{{Segment: "a", Ports: []PortRange{http}}}, listen: []PortRange{http, https}, want: []string{missed}},
		"steer, both":                  {steer: []Rule{{Segment: "a", Ports: []PortRange{http, https}}}, listen: []PortRange{http, https}},
		"steer, another protocol":      {steer: []Rule{{Segment: "a", Protocols: []Protocol{UDP}}}, listen: []PortRange{https}, want: []string{missed}},
		"steer, HTTP/3 left out":       {steer: []Rule{{Segment: "a", Ports: []PortRange{https}}}, listen: []PortRange{https, {UDP, 443, 443}}},
		"taken by another rule":        {steer: []Rule{{Segment: "b", Ports: []PortRange{https}}}, policy: policy("a"), listen: []PortRange{http, https}, want: []string{missed}},
		"taken of some clients":        {steer: []Rule{{Segment: "b", Ports: []PortRange{https}, Clients: lan}}, policy: policy("a"), listen: []PortRange{https}},
		"taken of another protocol":    {steer: []Rule{{Segment: "b", Ports: []PortRange{dns}}}, policy: policy("a"), listen: []PortRange{https}},
		"taken by a rule that is late": {steer: []Rule{{Segment: "a", Clients: lan}, {Segment: "b", Ports: []PortRange{https}}}, listen: []PortRange{https}},
		"steer by name":                {steer: []Rule{{Segment: "a", Names: []string{"a.example.com"}}}, listen: []PortRange{http, https}},
		"steer by name, closed":        {steer: []Rule{{Segment: "a", Names: []string{"a.example.com"}}}, want: []string{closed}},
		"steer by name, another port":  {steer: []Rule{{Segment: "a", Names: []string{"a.example.com"}, Ports: []PortRange{http}}}, listen: []PortRange{https}, want: []string{missed}},
		"steer by name, SSH too":       {steer: []Rule{{Segment: "a", Names: []string{"a.example.com"}}}, listen: []PortRange{https, ssh}, want: []string{noSSH}},
		"taken of some names":          {steer: []Rule{{Segment: "b", Names: []string{"*.example.com"}}}, policy: policy("a"), listen: []PortRange{http, https}},
		"behind a front":               {b: []string{"a"}, listen: []PortRange{https}},
		"behind a front, closed":       {b: []string{"a"}, want: []string{"segment a: it gets flows from segment b and opens no port, so it refuses them: give it a site (`bind vnic/a`), or name its server's ports in `ports`"}},
	} {
		t.Run(name, func(t *testing.T) {
			bridge := &Bridge{Steer: append(slices.Clone(test.steer), Rule{Segment: "b", Clients: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}), LBPolicy: test.policy}
			cfg := Config{
				Segments: map[string]*Segment{"a": &test.a, "b": {Ports: []PortRange{AnyPort}, Reach: test.b}},
				Bridges:  map[string]*Bridge{"lan": bridge},
			}
			if got := cfg.Unserved(map[string][]PortRange{"a": test.listen}, nil); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Row F14: what no address of a family can reach is reported once, where it is.
func TestUnservedFamilies(t *testing.T) {
	lan := func(c *Config) *Bridge { return c.Bridges["lan"] }
	for name, test := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"all is reached":                 {func(*Config) {}, nil},
		"one of a policy lacks a family": {func(c *Config) { lan(c).LBPolicy.Segments = []string{"front", "four"} }, nil},
		"a policy lacks a family": {func(c *Config) {
			lan(c).LBPolicy.Segments = []string{"four"}
			lan(c).Steer = []Rule{{Segment: "front", Protocols: []Protocol{TCP}}}
		}, []string{"bridge lan: no segment of its lb_policy has an IPv6 address, so the IPv6 flows that no steer rule matches get no segment"}},
		"a bridge lacks segments of a family": {func(c *Config) {
			lan(c).LBPolicy.Segments = []string{"four"}
		}, []string{
			"segment front: no bridge gives it flows, and no segment may reach it: nothing from outside reaches it",
			"bridge lan: none of its segments has an IPv6 address, so no IPv6 flow gets a segment",
		}},
		"a rule's segment lacks a family": {func(c *Config) {
			lan(c).Steer = []Rule{{Segment: "front", Ports: []PortRange{{TCP, 80, 80}}}, {Segment: "four", Protocols: []Protocol{ICMP}}}
		}, []string{"bridge lan: segment four has no IPv6 address, so the IPv6 flows that steer rule 2 matches get no segment"}},
		"one of a rule's segments lacks a family": {func(c *Config) {
			lan(c).Steer = []Rule{{LBPolicy: &Policy{PolicyFirst, []string{"four", "front"}}, Names: []string{"a.example"}}}
		}, nil},
		"a rule's segments lack a family": {func(c *Config) {
			lan(c).Steer = []Rule{{LBPolicy: &Policy{PolicyFirst, []string{"four"}}, Names: []string{"a.example"}}}
		}, []string{"bridge lan: segment four has no IPv6 address, so the IPv6 flows that steer rule 1 matches get no segment"}},
		"a rule is for the segment's family": {func(c *Config) {
			lan(c).Steer = []Rule{{Segment: "four", Clients: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
		}, nil},
		"an address that nothing reaches": {func(c *Config) {
			c.Segments["front"].Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.40.1/24")}
			c.Segments["front"].Reach = []string{"a", "four"}
			lan(c).LBPolicy.Segments = []string{"front", "six"}
		}, []string{"segment a: nothing from outside reaches its address fd00:50::1, because nothing that gives it flows (segment front) has an IPv6 address"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := twoFamilies()
			test.change(c)
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := c.Unserved(nil, nil); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
