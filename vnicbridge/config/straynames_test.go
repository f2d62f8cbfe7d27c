package config

import (
	"slices"
	"testing"
)

// Row N11: the names of sites that a bridge that steers by name does not give their segment.
func TestStrayNames(t *testing.T) {
	named := func(segment string, names ...string) Rule { return Rule{Segment: segment, Names: names} }
	lan := parsed("10.0.0.0/8")
	ofLan := func(r Rule) Rule { r.Clients = lan; return r }
	web := func(segment string) Rule { return Rule{Segment: segment, Ports: []PortRange{http, https}} }
	some := named("a", "a.example")
	lost := func(fix string) []string {
		return []string{"segment a: it has sites for c.example, but bridge lan steers clients that ask for these names elsewhere: add `steer a name c.example`" + fix}
	}
	const orSites = ", or write `steer sites`"
	c := []Site{secure("a", "c.example")}
	either := func(names ...string) Rule {
		return Rule{LBPolicy: &Policy{PolicyFirst, []string{"b", "a"}}, Names: names}
	}
	for name, test := range map[string]struct {
		steer  []Rule
		policy []string
		sites  []Site
		want   []string
	}{
		"no names":                              {[]Rule{web("b")}, []string{"a"}, c, nil},
		"named":                                 {[]Rule{named("a", "C.example.")}, []string{"b"}, c, nil},
		"not named":                             {[]Rule{some}, []string{"b"}, c, lost(orSites)},
		"not named, policy":                     {[]Rule{some}, []string{"b", "a"}, c, nil},
		"not named, taken by a rule":            {[]Rule{some, web("b")}, []string{"a"}, c, lost(orSites)},
		"not named, taken of some":              {[]Rule{some, ofLan(web("b"))}, []string{"a"}, c, nil},
		"not named, given by a rule":            {[]Rule{some, web("a")}, []string{"b"}, c, nil},
		"named too late":                        {[]Rule{some, web("b"), named("a", "c.example")}, []string{"b"}, c, lost(orSites)},
		"named late for some":                   {[]Rule{some, ofLan(web("b")), named("a", "c.example")}, []string{"b"}, c, nil},
		"another's name":                        {[]Rule{some, named("b", "c.example"), web("a")}, nil, c, lost(orSites)},
		"named with another segment":            {[]Rule{either("c.example"), web("b")}, nil, c, nil},
		"by a pattern with another segment":     {[]Rule{either("*.example"), web("b")}, nil, c, nil},
		"other names with another segment":      {[]Rule{either("a.example"), web("b")}, nil, c, lost(orSites)},
		"by a pattern":                          {[]Rule{named("a", "*.example")}, []string{"b"}, c, nil},
		"by a pattern before a rule":            {[]Rule{named("a", "*.example"), web("b")}, nil, c, nil},
		"another's pattern":                     {[]Rule{some, named("b", "*.example"), web("a")}, nil, c, lost(orSites)},
		"another's pattern, for some":           {[]Rule{some, ofLan(named("b", "*.example")), web("a")}, nil, c, nil},
		"another's pattern, but named":          {[]Rule{named("b", "*.example"), named("a", "c.example")}, nil, c, nil},
		"by a pattern, but another's name":      {[]Rule{named("a", "*.example"), named("b", "c.example")}, []string{"b"}, c, lost(orSites)},
		"a site with a pattern":                 {[]Rule{named("b", "c.example"), named("a", "*.example")}, []string{"b"}, []Site{secure("a", "*.example")}, nil},
		"another bridge's segment, or nobody's": {[]Rule{named("b", "b.example")}, []string{"b"}, c, nil},
		"behind a front":                        {[]Rule{some, web("front")}, nil, append(slices.Clone(c), secure("front", "c.example")), nil},
		"many names on another port": {[]Rule{named("a", "a.example"), {Segment: "a", Names: []string{"x.example"}, Ports: []PortRange{other}}}, []string{"b"},
			[]Site{{Segment: "a", Names: []string{"5.example", "4.example", "3.example", "x.example"}, Ports: []PortRange{other}}, plain("a", "2.example")},
			[]string{"segment a: it has sites for 2.example, 3.example, 4.example, …, but bridge lan steers clients that ask for these names elsewhere: add `steer a name 2.example 3.example 4.example … port tcp/80 tcp/8443`" + orSites}},
		"a port that is closed": {[]Rule{some}, []string{"b"}, []Site{{Segment: "a", Names: []string{"a.example"}, Ports: []PortRange{other}}}, nil},
		"steer sites":           {[]Rule{{Sites: true}, web("b")}, nil, c, nil},
		"steer sites too late":  {[]Rule{named("b", "c.example"), some, {Sites: true}}, nil, c, lost("")},
		"steer sites, none": {[]Rule{{Sites: true}, web("b")}, nil, nil,
			[]string{"bridge lan: `steer sites` steers nothing, because no segment has a site with a host name of its own: put host names in the sites' addresses, or remove the line"}},
	} {
		t.Run(name, func(t *testing.T) {
			open := []PortRange{AnyPort}
			cfg := &Config{
				Segments: map[string]*Segment{
					"a": {Addresses: parsed("192.168.50.1/24"), Ports: open}, "b": {Addresses: parsed("192.168.60.1/24"), Ports: open},
					"front": {Addresses: parsed("192.168.40.1/24"), Ports: open, Reach: []string{"a"}},
				},
				Bridges: map[string]*Bridge{"lan": {NIC: "eth1", Addresses: parsed("192.168.1.2/24"), Steer: test.steer}},
			}
			if test.policy != nil {
				cfg.Bridges["lan"].LBPolicy = &Policy{PolicyFirst, test.policy}
			}
			cfg.ResolveSites(test.sites)
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := cfg.strayNames("lan", test.sites); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
