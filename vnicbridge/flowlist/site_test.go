package flowlist

import (
	"encoding/json"
	"net/netip"
	"testing"
)

// A client of IPv6 is known by its /64, whichever address of it has opened the flow.
func TestSite(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.7":           "203.0.113.7",
		"2001:db8:10::2":        "2001:db8:10::/64",
		"2001:db8:10:0:ffff::9": "2001:db8:10::/64",
		"2001:db8:10:1::2":      "2001:db8:10:1::/64",
	} {
		site := SiteOf(netip.MustParseAddr(address))
		if got := site.String(); got != want {
			t.Errorf("the site of %s is %s, want %s", address, got, want)
		}
		text, err := json.Marshal(Client{Address: site})
		var back Client
		if err == nil {
			err = json.Unmarshal(text, &back)
		}
		if err != nil || back.Address != site {
			t.Errorf("%s comes back from %s as %s (%v)", site, text, back.Address, err)
		}
	}
	if err := new(Site).UnmarshalText([]byte("router")); err == nil {
		t.Error("a name is taken for a site")
	}
}
