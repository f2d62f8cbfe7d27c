package vnicbridge

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// oneOf takes the one frame that was sent to one of the segments, and says to which.
func (r *rig) oneOf() (segment string, frame []byte) {
	r.t.Helper()
	a, b := r.got("vnic-A"), r.got("vnic-B")
	switch {
	case len(a) == 1 && len(b) == 0:
		return "a", a[0]
	case len(a) == 0 && len(b) == 1:
		return "b", b[0]
	}
	return "none", nil
}

// wantAt lets a client send a frame, and checks which segment gets it.
func (r *rig) wantAt(when, want string, frame []byte) (got []byte) {
	r.t.Helper()
	r.put("nic0", frame)
	segment, got := r.oneOf()
	if segment != want {
		r.t.Errorf("%s: a packet of protocol %d goes to %s, want %s", when, frame[packet.EthHeaderLen+9], segment, want)
	}
	return got
}

// fails lets a segment be found unhealthy, or healthy again.
func (r *rig) fails(segment string, unhealthy bool) {
	r.t.Helper()
	r.plane.mu.Lock()
	defer r.plane.mu.Unlock()
	why := ""
	if unhealthy {
		why = "it is lost"
	}
	if err := r.plane.setLost(r.plane.segments[segment].iface, why); err != nil {
		r.t.Error(err)
	}
}

// Row F10+: datagrams and echoes from one port leave a segment that is unhealthy with
// their next packet. Connections stay, and so does what the segment itself has opened.
func TestDatagramsLeaveAnUnhealthySegment(t *testing.T) {
	for name, breaks := range map[string]func(*rig){
		"with its VNIC": func(r *rig) { r.fails("a", true) },
		"without its VNIC": func(r *rig) {
			r.breaks("vnic-A")
			time.Sleep(retryInterval)
			synctest.Wait()
		},
	} {
		for _, steered := range []bool{false, true} {
			cfg := paperConfig()
			after := "b"
			if steered {
				cfg.Bridges["lan"].Steer = []config.Rule{{Segment: "a", Clients: prefixes(farHost + "/32")}}
				after = "none"
			}
			t.Run(name+" "+after, func(t *testing.T) {
				onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
					datagram, echo := fromRouter(farHost, 5000, 53).udp("q"), fromRouter(farHost, 5000, 0).echo("q")
					r.open(farHost, 5001)
					r.wantAt("at first", "a", datagram)
					r.wantAt("at first", "a", echo)
					r.put("vnic-A", fromA(routerOnA, 6000, 53).udp("the segment's own"))
					flows := r.plane.Status().Flows
					breaks(r)
					r.got("nic0")
					if n := r.plane.Status().Flows; n != flows-2 {
						t.Errorf("%d flows are left of %d", n, flows)
					}
					r.wantAt("unhealthy", after, datagram)
					r.wantAt("unhealthy", after, echo)
					if name == "with its VNIC" {
						r.wantAt("unhealthy", "a", fromRouter(farHost, 5001, 80).tcp("A", "still here"))
						r.put("nic0", fromRouter(router, 53, 6000).udp("answer"))
						r.one("vnic-A")
					}
					if after == "b" {
						r.fails("a", false)
						r.wantAt("healthy again", "b", datagram) // a living flow does not move
					}
				})
			})
		}
	}
}

// Row F10+: a flow that was opened while its segment became unhealthy leaves it, too.
func TestDatagramsThatCameLateLeave(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		datagram := fromRouter(farHost, 5000, 53).udp("q")
		r.wantAt("at first", "a", datagram)
		r.plane.mu.Lock()
		r.plane.health.SetLost(r.plane.segments["a"].iface, "it is lost") // and nothing else has happened yet
		rules, err := r.plane.compile(r.plane.cfg, r.plane.devices, r.plane.retired)
		r.plane.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		r.plane.datapaths.setRules(rules)
		r.wantAt("before somebody looks", "a", datagram)
		time.Sleep(inspectInterval + maintainInterval)
		r.wantAt("after somebody has looked", "b", datagram)
	})
}

// unreachable builds an ICMP destination unreachable about a frame.
func (e ends) unreachable(code uint8, about []byte) []byte {
	icmp := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(packet.ICMPUnreachable, code)}
	return e.build(e.ip(layers.IPProtocolICMPv4), icmp, gopacket.Payload(about[packet.EthHeaderLen:]))
}

// Row F10+: a server that says that its UDP port is closed loses the flow: its client is
// told, and the next datagram chooses anew. Nobody else can say so.
func TestDatagramsLeaveAClosedPort(t *testing.T) {
	onEachDataPath(t, roundRobin(), func(t *testing.T, r *rig) {
		datagram := fromRouter(router, 5000, 53).udp("q")
		got := r.wantAt("at first", "a", datagram)
		closed := fromA(routerOnA, 0, 0).unreachable(layers.ICMPv4CodePort, got)

		// The server's answer cannot be delivered; another host, another segment and a
		// router say that the server's port is closed; the server says something else.
		r.got("nic0")
		r.put("vnic-A", fromA(routerOnA, 53, 5000).udp("answer"))
		answer := r.one("nic0")
		r.put("nic0", fromRouter(router, 0, 0).unreachable(layers.ICMPv4CodePort, answer))
		r.put("nic0", fromRouter("198.51.100.1", 0, 0).unreachable(layers.ICMPv4CodePort, answer))
		r.put("nic0", fromRouter(router, 0, 0).unreachable(layers.ICMPv4CodePort, datagram))
		r.put("vnic-B", ends{vnicBMAC, routerMAC, serverB, routerOnB, 0, 0}.unreachable(layers.ICMPv4CodePort, got))
		r.put("vnic-A", fromA(routerOnA, 0, 0).unreachable(layers.ICMPv4CodeHost, got))
		r.got("vnic-A")
		r.wantAt("after what proves nothing", "a", datagram)
		r.got("nic0")

		r.put("vnic-A", closed)
		if d := decode(r.one("nic0")); d.icmp != packet.ICMPUnreachable || d.src != pseudo || d.dst != router || !d.valid {
			t.Errorf("the client gets %+v", d)
		}
		if n := r.plane.Status().Flows; n != 0 {
			t.Errorf("%d flows are left", n)
		}
		r.wantAt("a's port is closed", "b", datagram)
		r.put("vnic-A", closed) // late
		r.wantAt("a's port is closed", "b", datagram)

		// A connection is not ended by it (RFC 5927).
		r.put("nic0", fromRouter(router, 5001, 80).tcp("S", ""))
		segment, syn := r.oneOf()
		if segment != "a" {
			t.Fatalf("the connection goes to %s", segment)
		}
		r.put("vnic-A", fromA(routerOnA, 0, 0).unreachable(layers.ICMPv4CodePort, syn))
		r.wantAt("a connection", "a", fromRouter(router, 5001, 80).tcp("S", ""))
	})
}

// Row F10+: a drain and a switch leave datagrams and echoes where they are, until they
// are asked for: then those choose anew that would come elsewhere.
func TestDatagramsAreAskedFor(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].Steer = []config.Rule{{Segment: "a", Ports: []config.PortRange{{Protocol: config.UDP, First: 54, Last: 54}}}}
	for name, tc := range map[string]struct {
		operate, flows func(*Plane) error
		steered        string // where the flow of the steer rule is afterwards
	}{
		"drain": {
			func(p *Plane) error { return p.SetState("a", config.Draining) },
			func(p *Plane) error { return p.DrainFlows("a") }, "none",
		},
		"switch": {
			func(p *Plane) error { return p.Switch("lan", "b") },
			func(p *Plane) error { return p.SwitchFlows("lan") }, "a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				datagram, echo := fromRouter(farHost, 5000, 53).udp("q"), fromRouter(farHost, 5000, 0).echo("q")
				steered := fromRouter(farHost, 5000, 54).udp("q")
				r.open(farHost, 5001)
				expect := func(when, want, wantSteered string) {
					t.Helper()
					r.wantAt(when, want, datagram)
					r.wantAt(when, want, echo)
					r.wantAt(when, wantSteered, steered)
					r.wantAt(when, "a", fromRouter(farHost, 5001, 80).tcp("A", "still here"))
				}
				expect("at first", "a", "a")
				if err := tc.operate(r.plane); err != nil {
					t.Fatal(err)
				}
				expect("without --flows", "a", "a")
				for _, anew := range []uint64{2, 0} { // once they are there, they stay
					before := r.plane.Status().Bridges["lan"].NewFlows
					if err := tc.flows(r.plane); err != nil {
						t.Fatal(err)
					}
					expect("with --flows", "b", tc.steered)
					if n := r.plane.Status().Bridges["lan"].NewFlows - before; n != anew {
						t.Errorf("%d flows have begun, want %d", n, anew)
					}
				}
				if r.plane.DrainFlows("z") == nil || r.plane.SwitchFlows("z") == nil {
					t.Error("what is unknown has flows")
				}
			})
		})
	}
}
