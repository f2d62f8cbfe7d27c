package command

import (
	"net/netip"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

func TestHolders(t *testing.T) {
	one := flowlist.Client{Address: flowlist.SiteOf(netip.MustParseAddr("203.0.113.7")), Flows: 1}
	two := flowlist.Client{Address: flowlist.SiteOf(netip.MustParseAddr("192.168.40.1")), Flows: 2}
	for _, test := range []struct {
		left flowlist.ClientList
		want string
	}{
		{flowlist.ClientList{}, "no flow is left"},
		{flowlist.ClientList{Matched: 1, Clients: []flowlist.Client{one}}, "1 flow is left, 1 of 203.0.113.7"},
		{flowlist.ClientList{Matched: 3, Clients: []flowlist.Client{two, one}}, "3 flows are left, 2 of 192.168.40.1, 1 of 203.0.113.7"},
		{flowlist.ClientList{Matched: 7, Clients: []flowlist.Client{two, one}}, "7 flows are left, 2 of 192.168.40.1, 1 of 203.0.113.7, 4 of others"},
	} {
		if got := holders(test.left); got != test.want {
			t.Errorf("it says %q, want %q", got, test.want)
		}
	}
}
