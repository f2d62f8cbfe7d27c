package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Row N1: patterns are compared without case, as clients send them.
func TestHostPattern(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := strings.Join([]string{label, label, label, label[:61]}, ".") // 253 bytes
	for _, test := range []struct{ text, want, says string }{
		{text: "a.example.com", want: "a.example.com"},
		{text: "A.Example.COM.", want: "a.example.com"},
		{text: "*.example.com", want: "*.example.com"},
		{text: "*.com", want: "*.com"},
		{text: "localhost", want: "localhost"},
		{text: "_acme-challenge.a-1.example", want: "_acme-challenge.a-1.example"},
		{text: "bücher.example", want: "xn--bcher-kva.example"},
		{text: "*.BÜCHER.Example", want: "*.xn--bcher-kva.example"},
		{text: "XN--Bcher-KVA.example", want: "xn--bcher-kva.example"},
		{text: "例え.テスト", want: "xn--r8jz45g.xn--zckzah"},
		{text: longest, want: longest},

		{text: "", says: "want a host name, as in a.example.com or *.example.com"},
		{text: ".", says: "want a host name, as in"},
		{text: "a..example.com", says: "want a host name, as in"},
		{text: ".example.com", says: "want a host name, as in"},
		{text: "a.example.com..", says: "want a host name, as in"},
		{text: "a example.com", says: "want a host name, as in"},
		{text: "a.example.com,b.example.com", says: "want a host name, as in"},
		{text: "{env.NAME}", says: "want a host name, as in"},
		{text: label + "a.example", says: "labels of 1 to 63"},
		{text: "*", says: "* stands for the first label only"},
		{text: "*.", says: "* stands for the first label only"},
		{text: "*.*.example.com", says: "* stands for the first label only"},
		{text: "a.*.com", says: "* stands for the first label only"},
		{text: "a*.example.com", says: "* stands for the first label only"},
		{text: "a.example.com:443", says: "without a port"},
		{text: "https://a.example.com", says: "without scheme and path"},
		{text: "a.example.com/path", says: "without scheme and path"},
		{text: "192.168.1.2", says: "a flow to an address has none"},
		{text: "2001:db8::1", says: "a flow to an address has none"},
		{text: "[2001:db8::1]", says: "a flow to an address has none"},
		{text: longest + "a", says: `name "aaaaaaaaaaaaaaaaaaaa"…: a host name has at most 253 bytes`},
		{text: strings.Repeat("bücher.", 30) + "example", says: "at most 253 bytes"}, // 217 letters
		{text: "xn--abc-.example", says: "no international host name"},
	} {
		got, err := HostPattern(test.text)
		switch {
		case test.says == "" && (err != nil || got != test.want):
			t.Errorf("%q becomes %q (%v), want %q", test.text, got, err, test.want)
		case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%q: the error is %v, want one that says %q", test.text, err, test.says)
		}
	}
}

// FuzzHostPattern: a normal form is a pattern, and its own normal form.
func FuzzHostPattern(f *testing.F) {
	for _, text := range []string{"*.Example.com.", "bücher.example", "xn--bcher-kva", "a.*.com", "[::1]", "a/b:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pattern, err := HostPattern(text)
		if err != nil {
			return
		}
		if !hostForm.MatchString(strings.TrimPrefix(pattern, "*.")) || len(pattern) > maxHostName {
			t.Errorf("%q becomes %q, which is no pattern", text, pattern)
		}
		if again, err := HostPattern(pattern); err != nil || again != pattern {
			t.Errorf("%q becomes %q, and that %q (%v)", text, pattern, again, err)
		}
	})
}

func TestValidateNames(t *testing.T) {
	many := make([]string, MaxNames)
	for i := range many {
		many[i] = fmt.Sprintf("host-%d.example.com", i)
	}
	one := []string{"a.example.com"}
	for name, test := range map[string]struct {
		steer []Rule
		says  string // empty: the rules are valid
	}{
		"names alone":             {[]Rule{{Segment: "a", Names: []string{"A.example.com", "*.a.example.com"}}}, ""},
		"all matchers":            {[]Rule{{Segment: "a", Names: one, Clients: parsed("10.0.0.0/8"), Ports: []PortRange{{TCP, 8000, 8099}}, Protocols: []Protocol{TCP}}}, ""},
		"the same in two rules":   {[]Rule{{Segment: "a", Names: one}, {Segment: "front", Names: one}}, ""},
		"as many as there can be": {[]Rule{{Segment: "a", Names: many}}, ""},
		"no pattern":              {[]Rule{{Segment: "front", Names: one}, {Segment: "a", Names: []string{"*"}}}, `bridge lan: steer rule 2 (a): name "*": * stands for`},
		"twice":                   {[]Rule{{Segment: "a", Names: []string{"a.example.com", "A.example.com."}}}, "name a.example.com is given twice"},
		"several segments":        {[]Rule{{LBPolicy: &Policy{PolicyFirst, []string{"a", "front"}}, Names: one}}, ""},
		"no names":                {[]Rule{{LBPolicy: &Policy{PolicyFirst, []string{"a", "front"}}, Protocols: []Protocol{TCP}}}, "steer rule 1 (first a front): only a rule with names chooses"},
		"a segment and several":   {[]Rule{{Segment: "a", LBPolicy: &Policy{PolicyFirst, []string{"a"}}, Names: one}}, "segment a and an lb_policy: want one of them"},
		"no segment to choose":    {[]Rule{{LBPolicy: &Policy{Policy: PolicyFirst}, Names: one}}, "lb_policy first: no segments to choose from"},
		"a port of UDP":           {[]Rule{{Segment: "a", Names: one, Ports: []PortRange{{TCP, 443, 443}, {UDP, 443, 443}}}}, ""},
		"a protocol":              {[]Rule{{Segment: "a", Names: one, Protocols: []Protocol{TCP, ICMP}}}, "protocol icmp: pings have no host name"},
		"every port":              {[]Rule{{Segment: "a", Names: one, Ports: []PortRange{AnyPort}}}, "port any: name the ports"},
		"too many":                {[]Rule{{Segment: "a", Names: many}, {Segment: "front", Names: one}}, "steer rule 2 (front): the rules up to this one have 10001 names, and a bridge has at most 10000"},
	} {
		t.Run(name, func(t *testing.T) {
			c := twoFamilies()
			c.Bridges["lan"].Steer = test.steer
			err := c.Validate()
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("the error is %v, want one that says %q", err, test.says)
			}
		})
	}
}

func TestPortsOrDefault(t *testing.T) {
	web, other := []PortRange{{TCP, 80, 80}, {TCP, 443, 443}, {UDP, 443, 443}}, []PortRange{{TCP, 8443, 8443}}
	for _, test := range []struct {
		rule Rule
		want []PortRange
	}{
		{Rule{Protocols: []Protocol{TCP}}, nil},
		{Rule{Names: []string{"a.example.com"}}, web},
		{Rule{Names: []string{"a.example.com"}, Ports: other}, other},
		{Rule{Ports: other}, other},
	} {
		if got := test.rule.PortsOrDefault(); !slices.Equal(got, test.want) {
			t.Errorf("%+v applies to %v, want %v", test.rule, got, test.want)
		}
	}
}

func TestNormalNames(t *testing.T) {
	r := Rule{Names: []string{"A.example.com.", "*.bücher.example"}}
	if got := r.normalNames(); !slices.Equal(got, []string{"a.example.com", "*.xn--bcher-kva.example"}) {
		t.Errorf("got %q", got)
	}
}
