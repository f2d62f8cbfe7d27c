package vnicbridge

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// limited is dualConfig with limits of segment a.
func limited(l config.Limits) *config.Config {
	cfg := dualConfig()
	cfg.Segments["a"].Limits = l
	cfg.Segments["a"].Egress = config.EgressAny
	return cfg
}

// syn tells whether a client's SYN comes to segment a.
func (r *rig) syn(o outsider, client string, port uint16) bool {
	r.t.Helper()
	r.put("nic0", o.from(client, port, 80).tcp("S", ""))
	came := len(r.got("vnic-A")) == 1
	for _, frame := range r.got("nic0") { // others are questions to the router
		if d := decode(frame); d.dst == client {
			r.t.Errorf("%s is answered by %+v", client, d)
		}
	}
	return came
}

func (r *rig) refused(segment string) uint64 { return r.plane.Status().Segments[segment].Refused }

func (r *rig) flowsOf(segment string) int { return r.plane.Status().Segments[segment].Flows }

// A segment has as many flows as it may, of both families together. A new one beyond that takes
// the place of the oldest that came to nothing, and never that of an established connection.
// Another segment is not affected.
func TestLimitOfFlows(t *testing.T) {
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, limited(config.Limits{Flows: 3}), func(t *testing.T, r *rig) {
				v4, v6 := outsiders[0], outsiders[1]
				first := v4.open(r, v4.host, 4000)
				v6.open(r, v6.host, 4000)
				for port := range uint16(5) {
					if !r.syn(o, o.host, 5000+port) {
						t.Errorf("SYN %d does not come to the segment, although a half-open connection can make room", port)
					}
					if n := r.flowsOf("a"); n > 3 {
						t.Errorf("the segment has %d flows, want at most 3", n)
					}
				}
				r.put("nic0", v4.from(v4.host, 4000, 80).tcp("A", "more"))
				r.one("vnic-A")
				o.open(r, o.host, 6000)
				if n := r.flowsOf("a"); n != 3 {
					t.Errorf("the segment has %d flows, want 3", n)
				}

				if r.syn(o, o.host, 7000) {
					t.Error("a fourth flow begins beside three established connections")
				}
				if n := r.drops("nic0", "limit"); n != 1 {
					t.Errorf("%d are counted as beyond a limit, want 1", n)
				}
				r.put("vnic-A", o.toClient(o.host, 5000, 443).tcp("S", ""))
				r.silent("nic0")
				if n := r.drops("vnic-A", "limit"); n != 1 {
					t.Errorf("%d of the segment's own are counted as beyond a limit, want 1", n)
				}
				if n := r.refused("a"); n != 2 {
					t.Errorf("segment a has refused %d packets, want 2", n)
				}

				r.put("vnic-A", v4.toClient(first, 80, 4000).tcp("RA", ""))
				r.got("nic0")
				time.Sleep(2 * time.Second) // that the segment is full is not forgotten at once
				if !r.syn(o, o.host, 7000) {
					t.Error("no flow begins after a connection has ended")
				}

				more := limited(config.Limits{Flows: 5})
				if err := r.plane.Apply(more); err != nil {
					t.Fatal(err)
				}
				if !r.syn(o, o.host, 7001) || !r.syn(o, o.host, 7002) {
					t.Error("a reload does not raise the limit")
				}
				r.put("nic0", v6.from(v6.host, 4000, 80).tcp("A", "more"))
				r.one("vnic-A")
			})
		})
	}
}

// A connection whose flow was evicted before its handshake was complete is over after both FINs,
// even if its client is the only one that sends meanwhile. Its flow makes room for another then.
func TestResumedConnectionsEnd(t *testing.T) {
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, limited(config.Limits{Flows: 1}), func(t *testing.T, r *rig) {
				client := o.from(o.host, 4000, 80)
				r.put("nic0", client.tcp("S", ""))
				server := o.toClient(decode(r.one("vnic-A")).src, 80, 4000)
				r.put("vnic-A", server.tcp("SA", ""))
				r.got("nic0")
				if !r.syn(o, o.host, 5000) {
					t.Fatal("a half-open connection makes no room")
				}
				r.put("nic0", client.tcp("A", ""), client.tcp("FA", ""))
				if n := len(r.got("vnic-A")); n != 2 {
					t.Fatalf("%d packets of a client come whose handshake was slow, want 2", n)
				}
				if r.syn(o, o.host, 6000) {
					t.Error("a connection that one side has closed makes room")
				}
				r.put("vnic-A", server.tcp("FA", ""))
				r.got("nic0")
				time.Sleep(2 * time.Second)
				if !r.syn(o, o.host, 6001) {
					t.Error("a connection that both sides have closed makes no room")
				}
			})
		})
	}
}

// As many flows of a segment begin in a second as may, those that it opens itself included.
// After a pause, those of a second begin at once.
func TestLimitOfNewFlows(t *testing.T) {
	for _, o := range outsiders {
		t.Run(o.name, func(t *testing.T) {
			inIPv6(t, limited(config.Limits{New: 10}), func(t *testing.T, r *rig) {
				time.Sleep(10 * time.Second)
				port := uint16(4000)
				begun := func(tries int) (n int) {
					for range tries {
						if port++; r.syn(o, o.host, port) {
							n++
						}
					}
					return n
				}
				if n := begun(40); n != 10 {
					t.Errorf("%d flows begin at once, want 10", n)
				}
				if n := r.drops("nic0", "limit"); n != 30 {
					t.Errorf("%d are counted as beyond a limit, want 30", n)
				}
				var each []int
				for range 20 {
					time.Sleep(500 * time.Millisecond)
					each = append(each, begun(20))
				}
				total := 0
				for _, n := range each {
					total += n
				}
				if total < 98 || total > 101 || slices.Max(each) > 6 {
					t.Errorf("in ten seconds %d flows begin, %v in each half, want 100", total, each)
				}
				r.put("vnic-A", o.toClient(o.host, 5000, 443).tcp("S", ""))
				r.silent("nic0")
				time.Sleep(200 * time.Millisecond)
				r.put("vnic-A", o.toClient(o.host, 5000, 443).tcp("S", ""))
				r.one("nic0")

				if err := r.plane.Switch("lan", "b"); err != nil {
					t.Fatal(err)
				}
				for port := range uint16(30) {
					r.put("nic0", o.from(o.host, 8000+port, 80).tcp("S", ""))
				}
				if n := len(r.got("vnic-B")); n != 30 {
					t.Errorf("%d of 30 flows begin at a segment without a limit", n)
				}
			})
		})
	}
}

// A client has as many flows at a segment as it may: in IPv4 an address, in IPv6 a /64. Others
// are not affected, and connections that are over do not count.
func TestLimitOfFlowsPerClient(t *testing.T) {
	for _, c := range []struct {
		outsider
		same string // another address of the same client; empty: there is none
	}{{outsider: outsiders[0]}, {outsiders[1], "2001:db8:9::77"}} {
		t.Run(c.name, func(t *testing.T) {
			inIPv6(t, limited(config.Limits{FlowsPerClient: 3}), func(t *testing.T, r *rig) {
				first := c.open(r, c.host, 4000)
				for port := range uint16(2) {
					c.open(r, c.host, 4001+port)
				}
				for _, client := range []string{c.host, c.same} {
					if client != "" && r.syn(c.outsider, client, 5000) {
						t.Errorf("%s gets a fourth flow", client)
					}
				}
				if dropped, refused := r.drops("nic0", "limit"), r.refused("a"); dropped == 0 || refused != dropped || r.refused("b") != 0 {
					t.Errorf("%d are counted as beyond a limit, and %d at segment a", dropped, refused)
				}
				for port := range uint16(3) {
					c.open(r, c.other, 4000+port)
				}
				r.put("vnic-A", c.toClient(c.host, 5001, 443).tcp("S", ""))
				r.one("nic0") // what the segment opens itself does not count

				r.put("vnic-A", c.toClient(first, 80, 4000).tcp("RA", ""))
				r.got("nic0")
				if !r.syn(c.outsider, c.host, 6000) || r.syn(c.outsider, c.host, 6001) {
					t.Error("not just one flow begins after a connection has ended")
				}
				other := limited(config.Limits{FlowsPerClient: 4})
				if err := r.plane.Apply(other); err != nil {
					t.Fatal(err)
				}
				if !r.syn(c.outsider, c.host, 6002) || r.syn(c.outsider, c.host, 6003) {
					t.Error("a reload does not raise the limit by one")
				}
				if err := r.plane.Apply(limited(config.Limits{})); err != nil {
					t.Fatal(err)
				}
				if !r.syn(c.outsider, c.host, 6004) {
					t.Error("a reload does not take the limit away")
				}
				if err := r.plane.Apply(limited(config.Limits{FlowsPerClient: 6})); err != nil {
					t.Fatal(err)
				}
				if !r.syn(c.outsider, c.host, 6005) || r.syn(c.outsider, c.host, 6006) {
					t.Error("a limit that comes by a reload does not count the flows that there are")
				}
			})
		})
	}
}

// A change of the data path, or of the flow table, keeps the limits and the flows.
func TestLimitsMove(t *testing.T) {
	onEachDataPath(t, limited(config.Limits{Flows: 9, FlowsPerClient: 2}), func(t *testing.T, r *rig) {
		o := outsiders[0]
		o.open(r, o.host, 4000)
		o.open(r, o.host, 4001)
		for i, datapath := range []config.Datapath{config.DatapathUserspace, config.DatapathAuto} {
			next := limited(config.Limits{Flows: 2 + 7*i, FlowsPerClient: 2 + 7*(1-i)})
			next.Datapath, next.MaxFlows = datapath, 5000+1000*i
			if err := r.plane.Apply(next); err != nil {
				t.Fatal(err)
			}
			r.got("vnic-A")
			if r.syn(o, o.host, 5000) {
				t.Errorf("with datapath %s a third flow begins", datapath)
			}
			if n := r.refused("a"); n != uint64(i+1) {
				t.Errorf("with datapath %s %d packets are refused, want %d", datapath, n, i+1)
			}
		}
	})
}
