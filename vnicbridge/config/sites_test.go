package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// twoBridges has the segments of twoFamilies, of which front reaches the others, and a second
// bridge that names segment six.
func twoBridges() *Config {
	c := twoFamilies()
	c.Bridges["wan"] = &Bridge{NIC: "eth2", Addresses: parsed("192.0.2.2/24", "2001:db8:2::2/64"), LBPolicy: &Policy{PolicyFirst, []string{"six"}}}
	return c
}

var (
	http, https, http3 = PortRange{TCP, 80, 80}, PortRange{TCP, 443, 443}, PortRange{UDP, 443, 443}
	other              = PortRange{TCP, 8443, 8443}
)

// secure is a site with HTTPS and HTTP/3, and with redirects on port 80.
func secure(segment string, names ...string) Site {
	return Site{Segment: segment, Names: names, Ports: []PortRange{https, http3}, Redirects: 80}
}

func plain(segment string, names ...string) Site {
	return Site{Segment: segment, Names: names, Ports: []PortRange{http}}
}

// Row N11: what `steer sites` stands for.
func TestResolveSites(t *testing.T) {
	rule := func(segment string, ports string, names ...string) string {
		return fmt.Sprintf("%s %v [%s]", segment, names, ports)
	}
	const web = "tcp/80 tcp/443 udp/443"
	for name, test := range map[string]struct {
		sites []Site
		want  []string
	}{
		"none":                            {nil, nil},
		"two segments":                    {[]Site{secure("four", "d.example"), secure("a", "b.example", "a.example"), plain("a", "a.example")}, []string{rule("a", web, "a.example", "b.example"), rule("four", web, "d.example")}},
		"other ports":                     {[]Site{secure("a", "a.example"), {Segment: "a", Names: []string{"x.example"}, Ports: []PortRange{other, https}}}, []string{rule("a", web, "a.example"), rule("a", "tcp/443 tcp/8443", "x.example")}},
		"HTTP only":                       {[]Site{plain("a", "a.example")}, []string{rule("a", "tcp/80", "a.example")}},
		"a front":                         {[]Site{secure("front", "www.example")}, []string{rule("front", web, "www.example")}},
		"behind a front of the same name": {[]Site{plain("a", "www.example"), secure("front", "www.example")}, []string{rule("front", web, "www.example")}},
		"a name that two segments have":   {[]Site{secure("a", "both.example", "a.example"), secure("four", "both.example")}, []string{rule("a", web, "a.example")}},
		"a name on different ports":       {[]Site{secure("a", "x.example"), plain("four", "x.example")}, []string{rule("a", "tcp/443 udp/443", "x.example"), rule("four", "tcp/80", "x.example")}},
		"another bridge's segment":        {[]Site{secure("six", "six.example")}, nil},
		"an unknown segment":              {[]Site{secure("no", "no.example")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := twoBridges()
			before, after := Rule{Segment: "a", Protocols: []Protocol{ICMP}}, Rule{Segment: "front", Ports: []PortRange{http}}
			c.Bridges["lan"].Steer = []Rule{before, {Sites: true}, after}
			c.ResolveSites(test.sites)
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			rules := c.Bridges["lan"].Rules()
			if !reflect.DeepEqual([]Rule{rules[0], rules[len(rules)-1]}, []Rule{before, after}) {
				t.Errorf("the rules before and after are in other places: %+v", rules)
			}
			var got []string
			for _, r := range rules[1 : len(rules)-1] {
				got = append(got, rule(r.Segment, strings.Trim(fmt.Sprint(r.Ports), "[]"), r.Names...))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Two bridges with `steer sites` share the segments that neither names, whichever of them is
// resolved first.
func TestResolveSitesOfTwoBridges(t *testing.T) {
	for range 20 { // maps have no order
		c := twoBridges()
		for _, b := range c.Bridges {
			b.Steer = []Rule{{Sites: true}}
		}
		c.ResolveSites([]Site{secure("a", "a.example"), secure("front", "www.example"), secure("six", "six.example")})
		for bridge, want := range map[string][]string{"lan": {"a", "front"}, "wan": {"a", "six"}} {
			var got []string
			for _, r := range c.Bridges[bridge].Rules() {
				got = append(got, r.Segment)
			}
			if !slices.Equal(got, want) {
				t.Errorf("bridge %s steers to %q, want %q", bridge, got, want)
			}
		}
	}
}

// A bridge whose last site has gone remains valid, and so does a segment that had it.
func TestValidateSites(t *testing.T) {
	for name, test := range map[string]struct {
		steer []Rule
		says  string // empty: the rules are valid
	}{
		"alone":          {[]Rule{{Sites: true}}, ""},
		"with a segment": {[]Rule{{Sites: true, Segment: "a"}}, "steer rule 1: sites stands alone"},
		"with a matcher": {[]Rule{{Sites: true, Ports: []PortRange{http}}}, "steer rule 1: sites stands alone"},
		"twice":          {[]Rule{{Sites: true}, {Segment: "a", Ports: []PortRange{http}}, {Sites: true}}, "steer rule 3: steer sites is given twice"},
		"without":        {[]Rule{{Segment: "front", Ports: []PortRange{http}}}, "segment a: egress any: no bridge names the segment"},
	} {
		t.Run(name, func(t *testing.T) {
			c := twoFamilies()
			c.Segments["a"].Egress = EgressAny
			c.Bridges["lan"].Steer, c.Bridges["lan"].LBPolicy = test.steer, nil
			err := c.Validate()
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("the error is %v, want one that says %q", err, test.says)
			}
			if got := len(c.Bridges["lan"].Rules()); test.says == "" && got != 0 {
				t.Errorf("%d rules, want none", got)
			}
		})
	}
}
