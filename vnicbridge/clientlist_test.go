package vnicbridge

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// Clients are listed with what their flows that match add up to, those with the most
// flows first.
func TestClients(t *testing.T) {
	cfg := listConfig()
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		r.openOneOfEach(cfg)
		clients := func(filter flowlist.Filter) flowlist.ClientList {
			t.Helper()
			l, err := r.plane.Clients(filter)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		all := clients(flowlist.Filter{})
		var got []string
		for _, c := range all.Clients {
			got = append(got, c.Address.String())
		}
		if got, want := strings.Join(got, " "), strings.Join([]string{router, "192.168.40.1", serverA, farHost}, " "); got != want {
			t.Errorf("the clients are %s, want %s", got, want)
		}
		if first := all.Clients[0]; all.Matched != 8 || first.Flows != 5 || !reflect.DeepEqual(first.Segments, []string{"a"}) {
			t.Errorf("of %d flows, the first client has %+v", all.Matched, first)
		}
		want := flowlist.Client{Address: flowlist.SiteOf(netip.MustParseAddr(router)), Flows: 2, Segments: []string{"a"}}
		for _, f := range r.list(flowlist.Filter{Client: netip.MustParsePrefix(router + "/32"), Protocol: config.UDP}) {
			want.Packets.Add(f.Packets)
			want.Bytes.Add(f.Bytes)
		}
		if want.Packets != (flowlist.Traffic{FromClient: 2, FromServer: 1}) {
			t.Errorf("the flows have %+v", want.Packets)
		}
		if got := clients(flowlist.Filter{Bridge: "lan", Protocol: config.UDP, Limit: 1}); got.Matched != 3 || !reflect.DeepEqual(got.Clients, []flowlist.Client{want}) {
			t.Errorf("by UDP there is %+v, want %+v", got, want)
		}
		if _, err := r.plane.Clients(flowlist.Filter{Segment: "z"}); err == nil {
			t.Error("an unknown segment is no error")
		}
	})
}

// The client with more than its share is found among more clients than are told
// apart, wherever its flows are in the table, and counted exactly.
func TestClientsAmongMany(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		const others, busy = 2 * flowlist.MaxClients, 10
		for i := range others {
			client := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}).String()
			r.put("nic0", fromRouter(client, 1000, 53).udp("x"))
			if i%(others/busy) == 0 {
				r.put("nic0", fromRouter(farHost, uint16(2000+i), 53).udp("x"))
			}
		}
		l, err := r.plane.Clients(flowlist.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if first := l.Clients[0]; first.Address.String() != farHost || first.Flows != busy+1 || first.Packets.FromClient != busy+1 {
			t.Errorf("the first client is %+v, want %s with %d flows", first, farHost, busy+1)
		}
		if want := others + busy + 1; l.Matched != want {
			t.Errorf("%d flows match, want %d", l.Matched, want)
		}
	})
}

// Row D8: a client of IPv6 is a /64. It is listed once for all its addresses, before an IPv4
// client with fewer flows, and a filter may name a network or an address of either family.
func TestClientsOfIPv6(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", fromRouter(farHost, 1000, 80).tcp("S", ""))
		for i := range uint16(5) {
			r.put("nic0", in6(fmt.Sprintf("2001:db8:9::%x", i+1), 1000+i, 80).tcp("S", ""))
		}
		r.put("nic0", in6("2001:db8:9:1::1", 1000, 80).tcp("S", ""))
		list := func(filter flowlist.Filter) string {
			t.Helper()
			l, err := r.plane.Clients(filter)
			if err != nil {
				t.Fatal(err)
			}
			var clients []string
			for _, c := range l.Clients {
				clients = append(clients, fmt.Sprintf("%s %d", c.Address, c.Flows))
			}
			return strings.Join(clients, ", ")
		}
		network := func(text string) flowlist.Filter {
			return flowlist.Filter{Client: netip.MustParsePrefix(text), Bridge: "lan", Segment: "a"}
		}
		for want, filter := range map[string]flowlist.Filter{
			"2001:db8:9::/64 5, " + farHost + " 1, 2001:db8:9:1::/64 1": {},
			"2001:db8:9::/64 5, 2001:db8:9:1::/64 1":                    network("2001:db8::/32"),
			"2001:db8:9::/64 1":                                         network("2001:db8:9::3/128"),
			farHost + " 1":                                              network("0.0.0.0/0"),
			"":                                                          network("fe80::/10"),
		} {
			if got := list(filter); got != want {
				t.Errorf("%+v lists %q, want %q", filter, got, want)
			}
		}
	})
}
