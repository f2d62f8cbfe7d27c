package vnicbridge

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
)

// list lists the flows that a filter matches.
func (r *rig) list(filter flowlist.Filter) []flowlist.Flow {
	r.t.Helper()
	l, err := r.plane.Flows(filter)
	if err != nil {
		r.t.Fatal(err)
	}
	if l.Matched != len(l.Flows) {
		r.t.Errorf("%d flows match, and %d are listed", l.Matched, len(l.Flows))
	}
	return l.Flows
}

// openOneOfEach opens a flow of each direction, state and protocol, and returns how
// they are to be listed, by what they are.
func (r *rig) openOneOfEach(cfg *config.Config) map[string]flowlist.Flow {
	r.open(router, 4000)
	r.put("nic0", fromRouter(router, 4000, 80).tcp("A", strings.Repeat("x", 100)))
	r.put("nic0", fromRouter(farHost, 4001, 80).tcp("S", ""))
	r.got("vnic-A")
	r.open(router, 4002)
	r.put("vnic-A", fromA(routerOnA, 80, 4002).tcp("R", ""))
	r.put("nic0", fromRouter(router, 4003, 53).udp("asked"))
	r.put("nic0", fromRouter(router, 4004, 53).udp("asked"))
	r.put("vnic-A", fromA(routerOnA, 53, 4004).udp("answered"))
	r.put("nic0", fromRouter(router, 4005, 0).echo("ping"))
	r.got("nic0")
	r.put("vnic-A", fromA(routerOnA, 5000, 53).udp("out"))
	here, _ := cfg.PeerAlias("front", "a", config.IPv4)
	there, _ := cfg.PeerAlias("a", "front", config.IPv4)
	r.put("vnic-F", ends{cfg.Segments["front"].MAC, vnicAMAC, "192.168.40.1", here.String(), 7000, 80}.tcp("S", ""))

	at := func(host string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(host), port)
	}
	inbound := func(proto config.Protocol, state flowlist.State, port, serverPort uint16) flowlist.Flow {
		return flowlist.Flow{
			Protocol: proto, State: state, Direction: flowlist.Inbound, Bridge: "lan", Segment: "a",
			Client: at(router, port), Destination: at(pseudo, serverPort), Source: at(routerOnA, port), Server: at(serverA, serverPort),
		}
	}
	far := inbound(config.TCP, flowlist.FlowHalfOpen, 4001, 80)
	far.Client = at(farHost, 4001)
	far.Source = r.aliasOf(farHost, 4001)
	return map[string]flowlist.Flow{
		"established": inbound(config.TCP, flowlist.Established, 4000, 80),
		"half open":   far,
		"closing":     inbound(config.TCP, flowlist.FlowClosing, 4002, 80),
		"unanswered":  inbound(config.UDP, flowlist.FlowHalfOpen, 4003, 53),
		"answered":    inbound(config.UDP, flowlist.Established, 4004, 53),
		"ping":        inbound(config.ICMP, flowlist.FlowHalfOpen, 4005, 0),
		"egress": {
			Protocol: config.UDP, State: flowlist.FlowHalfOpen, Direction: flowlist.Egress, Bridge: "lan", Segment: "a",
			Client: at(serverA, 5000), Destination: at(routerOnA, 53), Source: at(pseudo, 5000), Server: at(router, 53),
		},
		"reach": {
			Protocol: config.TCP, State: flowlist.FlowHalfOpen, Direction: flowlist.Reach, Segment: "a", Peer: "front",
			Client: at("192.168.40.1", 7000), Destination: at(here.String(), 80), Source: at(there.String(), 7000), Server: at(serverA, 80),
		},
	}
}

// aliasOf is the alias of a client on segment a, as its server is told.
func (r *rig) aliasOf(client string, port uint16) netip.AddrPort {
	r.t.Helper()
	alias, ok := r.plane.Alias("a", config.TCP, netip.MustParseAddrPort(serverA+":80"), Ends{Client: netip.AddrPortFrom(netip.MustParseAddr(client), port)})
	if !ok {
		r.t.Fatalf("%s has no alias", client)
	}
	return alias
}

func listConfig() *config.Config {
	cfg := frontConfig()
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
	return cfg
}

// Every flow is listed with both its sides, whatever opened it.
func TestFlows(t *testing.T) {
	cfg := listConfig()
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		want := r.openOneOfEach(cfg)
		got := make(map[netip.AddrPort]flowlist.Flow)
		for _, f := range r.list(flowlist.Filter{}) {
			f.Packets, f.Bytes, f.IdleSeconds = flowlist.Traffic{}, flowlist.Traffic{}, 0
			got[f.Client] = f
		}
		for name, w := range want {
			if g := got[w.Client]; g != w {
				t.Errorf("%s: listed as\n%+v, want\n%+v", name, g, w)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d flows are listed, want %d", len(got), len(want))
		}
		time.Sleep(5 * time.Second)
		only := r.list(flowlist.Filter{Client: netip.MustParsePrefix(router + "/32"), Protocol: config.TCP, State: flowlist.Established})
		if len(only) != 1 {
			t.Fatalf("of the established flow, %d are listed", len(only))
		}
		f := only[0]
		if want := (flowlist.Traffic{FromClient: 3, FromServer: 1}); f.Packets != want || f.Bytes != (flowlist.Traffic{FromClient: 60 + 60 + 154, FromServer: 60}) {
			t.Errorf("it carried %+v and %+v", f.Packets, f.Bytes)
		}
		if f.IdleSeconds < 4.9 || f.IdleSeconds > 5.1 {
			t.Errorf("it has been idle for %v s, want 5", f.IdleSeconds)
		}
	})
}

func TestFlowFilters(t *testing.T) {
	cfg := listConfig()
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		flows := r.openOneOfEach(cfg)
		for _, tc := range []struct {
			filter flowlist.Filter
			want   string
		}{
			{flowlist.Filter{}, "answered closing egress established half open ping reach unanswered"},
			{flowlist.Filter{Client: netip.MustParsePrefix(farHost + "/32")}, "half open"},
			{flowlist.Filter{Client: netip.MustParsePrefix("192.168.1.0/24")}, "answered closing established ping unanswered"},
			{flowlist.Filter{Client: netip.MustParsePrefix("10.0.0.0/8")}, ""},
			{flowlist.Filter{Segment: "front"}, "reach"},
			{flowlist.Filter{Segment: "b"}, ""},
			{flowlist.Filter{Bridge: "lan", State: flowlist.FlowHalfOpen}, "egress half open ping unanswered"},
			{flowlist.Filter{State: flowlist.FlowClosing}, "closing"},
			{flowlist.Filter{State: flowlist.Established}, "answered established"},
			{flowlist.Filter{Protocol: config.ICMP}, "ping"},
			{flowlist.Filter{Protocol: config.UDP, State: flowlist.FlowHalfOpen, Segment: "a", Bridge: "lan", Client: netip.MustParsePrefix(serverA + "/32")}, "egress"},
		} {
			listed := r.list(tc.filter)
			var names []string
			for _, name := range config.SortedKeys(flows) {
				for _, f := range listed {
					if f.Client == flows[name].Client {
						names = append(names, name)
					}
				}
			}
			if got := strings.Join(names, " "); got != tc.want || len(listed) != len(names) {
				t.Errorf("%+v: listed are %q (%d flows), want %q", tc.filter, got, len(listed), tc.want)
			}
		}
		for want, filter := range map[string]flowlist.Filter{
			`unknown segment "z"`: {Segment: "z"},
			`unknown bridge "z"`:  {Bridge: "z"},
			`unknown state "new"`: {State: "new"},
			"limit -1":            {Limit: -1},
			"limit 10001":         {Limit: flowlist.MaxLimit + 1},
		} {
			if _, err := r.plane.Flows(filter); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %s", filter, err, want)
			}
		}
	})
}

// Of many flows those are listed that had a packet last, the latest first, and all
// are counted.
func TestTheLatestFlowsAreListed(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		const flows, limit = 10 * flow.EachPart, 7
		for i := range flows {
			r.put("nic0", fromRouter(router, uint16(1000+i*7%flows), 53).udp("x"))
			time.Sleep(100 * time.Millisecond)
		}
		l, err := r.plane.Flows(flowlist.Filter{Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		if l.Matched != flows || len(l.Flows) != limit {
			t.Errorf("%d match and %d are listed, want %d and %d", l.Matched, len(l.Flows), flows, limit)
		}
		for i, f := range l.Flows {
			if want := uint16(1000 + (flows-1-i)*7%flows); f.Client.Port() != want {
				t.Errorf("at place %d is port %d, want %d", i, f.Client.Port(), want)
			}
		}
		if l, err := r.plane.Flows(flowlist.Filter{}); err != nil || len(l.Flows) != flowlist.DefaultFlowLimit {
			t.Errorf("by default %d are listed (%v)", len(l.Flows), err)
		}
	})
}

// While flows are listed others begin and end, packets are carried, and all flows
// that live throughout are seen once.
func TestFlowsAreListedInParts(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		const lasting = 10 * flow.EachPart
		for i := range uint16(lasting) {
			r.put("nic0", fromRouter(router, 1000+i, 53).udp("x"))
		}
		r.got("vnic-A")
		seen, pauses := make(map[uint16]int), uint16(0)
		r.plane.path.Flows.Each(func(f *flow.Flow) { seen[f.Orig.Sport]++ }, func() bool {
			pauses++
			for i := range uint16(20) {
				r.put("nic0", fromRouter(router, 20000+100*pauses+i, 53).udp("new"))
			}
			if n := len(r.got("vnic-A")); n != 20 {
				t.Errorf("in a pause %d packets of 20 are carried", n)
			}
			r.plane.path.Flows.RemoveIf(func(f *flow.Flow) bool { return f.Orig.Sport > 20000+100*pauses+10 })
			return true
		})
		if pauses < 10 {
			t.Errorf("%d pauses", pauses)
		}
		for i := range uint16(lasting) {
			if n := seen[1000+i]; n != 1 {
				t.Fatalf("the flow of port %d was seen %d times", 1000+i, n)
			}
		}
	})
}
