package vnicbridge

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// lose lets the flow table be lost, as by a restart.
func (r *rig) lose() { r.end() }

// lastingPolicies are those that give a client of port 80 to segment a every time.
var lastingPolicies = map[string]func(*config.Bridge){
	"ip_hash": func(b *config.Bridge) {
		b.LBPolicy = &config.Policy{Policy: config.PolicyIPHash, Segments: []string{"a"}}
	},
	"flow_hash": func(b *config.Bridge) {
		b.LBPolicy = &config.Policy{Policy: config.PolicyFlowHash, Segments: []string{"a"}}
	},
	"steer": func(b *config.Bridge) {
		b.LBPolicy = &config.Policy{Policy: config.PolicyRoundRobin, Segments: []string{"b"}}
		b.Steer = []config.Rule{{Segment: "a", Ports: []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}}}}
	},
}

// Row F5+: a server that is sending when the table is lost is picked up from its own
// side, if its client is known there: by its own address, or by the gateway's alias.
func TestPickUpFromTheServersSide(t *testing.T) {
	for policy, set := range lastingPolicies {
		for _, tc := range []struct {
			client string
			mode   config.ClientIP
		}{{farHost, config.Preserve}, {router, config.Preserve}, {router, config.Translate}} {
			cfg := paperConfig()
			cfg.Segments["a"].ClientIP = tc.mode
			set(cfg.Bridges["lan"])
			t.Run(policy+" "+string(tc.mode)+" "+tc.client, func(t *testing.T) {
				onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
					alias := r.open(tc.client, 4000)
					r.lose()
					client, server := fromRouter(tc.client, 4000, 80), fromA(alias, 80, 4000)
					for i := range uint32(3) {
						r.put("vnic-A", server.segment("A", 5000+5*i, 900, "lines"))
						d := decode(r.one("nic0"))
						if d.src != pseudo || d.sport != 80 || d.dst != tc.client || d.dport != 4000 || d.payload != "lines" || !d.valid {
							t.Fatalf("the client gets %+v", d)
						}
						if class := r.onlyFlow().Class(); class != flow.ClassHalfOpen {
							t.Errorf("before the client says something, the flow is of class %d", class)
						}
					}
					r.put("nic0", client.segment("A", 900, 5015, ""))
					if d := decode(r.one("vnic-A")); d.src != alias || d.dport != 80 || !d.valid {
						t.Errorf("the server gets %+v", d)
					}
					if class := r.onlyFlow().Class(); class != flow.ClassEstablished {
						t.Errorf("when both sides have spoken, the flow is of class %d", class)
					}
					time.Sleep(2 * userspace.OrphanTime)
					r.silent("vnic-A")
				})
			})
		}
	}
}

// Row F5+: nothing is picked up that the policy would not give to this segment, by a
// port that is not open, in another flow's place, or by what is not from the middle of
// a connection.
func TestNotPickedUpFromTheServersSide(t *testing.T) {
	cfg := paperConfig()
	for _, s := range cfg.Segments {
		s.ClientIP, s.Egress = config.Preserve, config.EgressOff
	}
	cfg.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.TCP, First: 82, Last: 82}}
	cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: config.PolicyRoundRobin, Segments: []string{"a"}}
	cfg.Bridges["lan"].Steer = []config.Rule{
		{Segment: "a", Ports: []config.PortRange{{Protocol: config.TCP, First: 80, Last: 81}}},
		{Segment: "b", Ports: []config.PortRange{{Protocol: config.TCP, First: 90, Last: 90}}},
	}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		fromB := ends{vnicBMAC, routerMAC, serverB, farHost, 80, 4000}
		for name, put := range map[string]func(){
			"another segment's":   func() { r.put("vnic-B", fromB.tcp("A", "x")) },
			"a closed port":       func() { r.put("vnic-A", fromA(farHost, 81, 4000).tcp("A", "x")) },
			"no lasting policy":   func() { r.put("vnic-A", fromA(farHost, 82, 4000).tcp("A", "x")) },
			"an impossible host":  func() { r.put("vnic-A", fromA("127.0.0.1", 80, 4000).tcp("A", "x")) },
			"another segment":     func() { r.put("vnic-A", fromA(serverB, 80, 4000).tcp("A", "x")) },
			"a SYN-ACK":           func() { r.put("vnic-A", fromA(farHost, 80, 4000).tcp("SA", "x")) },
			"a SYN":               func() { r.put("vnic-A", fromA(farHost, 80, 4000).tcp("S", "x")) },
			"a RST":               func() { r.put("vnic-A", fromA(farHost, 80, 4000).tcp("R", "x")) },
			"a RST, acknowledged": func() { r.put("vnic-A", fromA(farHost, 80, 4000).tcp("RA", "x")) },
			"a datagram":          func() { r.put("vnic-A", fromA(farHost, 80, 4000).udp("x")) },
		} {
			put()
			if n := r.plane.Status().Flows; n != 0 {
				t.Errorf("%s is picked up", name)
			}
			for _, f := range r.got("nic0") {
				t.Errorf("%s: nic0 sent %+v", name, decode(f))
			}
		}
		// The client's tuple is of a flow to b now.
		if err := r.plane.Apply(withSteer(cfg, config.Rule{Segment: "b", Ports: []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}}})); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.put("nic0", fromRouter(farHost, 4000, 80).tcp("S", ""))
		r.one("vnic-B")
		if err := r.plane.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.put("vnic-A", fromA(farHost, 80, 4000).tcp("A", "of an older one"))
		r.silent("nic0", "vnic-B")
		r.put("vnic-B", fromB.tcp("SA", ""))
		r.one("nic0")
	})
}

func withSteer(cfg *config.Config, first config.Rule) *config.Config {
	bridge := *cfg.Bridges["lan"]
	bridge.Steer = append([]config.Rule{first}, bridge.Steer...)
	return &config.Config{Segments: cfg.Segments, Bridges: map[string]*config.Bridge{"lan": &bridge}}
}

// Row F5+: a server whose client is not known is told within 30 s, by a RST that it
// accepts, unless the client speaks before.
func TestAServerWithoutAFlowIsTold(t *testing.T) {
	translate := paperConfig()
	lastingPolicies["ip_hash"](translate.Bridges["lan"])
	inTurn := paperConfig()
	inTurn.Segments["a"].ClientIP = config.Preserve
	inTurn.Bridges["lan"].LBPolicy = &config.Policy{Policy: config.PolicyRoundRobin, Segments: []string{"a"}}
	for name, cfg := range map[string]*config.Config{"translate": translate, "a policy that does not last": inTurn} {
		t.Run(name, func(t *testing.T) {
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				hears, silent := r.open(farHost, 4000), r.open(farHost, 4001)
				r.lose()
				began := time.Now()
				r.put("vnic-A", fromA(hears, 80, 4000).segment("A", 5000, 900, "line"), fromA(silent, 80, 4001).segment("A", 5000, 900, "line"))
				if name == "translate" {
					time.Sleep(time.Second)
					r.put("nic0", fromRouter(farHost, 4000, 80).segment("A", 900, 5000, ""))
					r.one("vnic-A")
				}
				r.silent("nic0", "vnic-A")
				numbers := map[uint16]uint32{}
				for time.Since(began) < 30*time.Second {
					time.Sleep(time.Second)
					r.put("vnic-A", fromA(silent, 80, 4001).segment("A", 5000, 900, "line"))
					for _, raw := range resets(r.got("vnic-A")) {
						d := decode(raw)
						if d.src != silent && d.src != hears || d.dst != serverA || d.dstMAC != vnicAMAC || !d.valid {
							t.Errorf("%+v", d)
						}
						numbers[d.sport] = binary.BigEndian.Uint32(raw[packet.EthHeaderLen+packet.IPv4MinLen+4:])
					}
				}
				if numbers[4001] != 900 {
					t.Errorf("the server is told %v, want a RST with what it has acknowledged, 900", numbers)
				}
				if _, told := numbers[4000]; told != (name != "translate") {
					t.Errorf("the other connection is reset: %v", told)
				}
				if n := len(resets(r.got("nic0"))); n > 0 {
					t.Errorf("%d resets outside", n)
				}
			})
		})
	}
}

// Row F5+: what a segment sends in connections that nobody knows takes bounded memory,
// and is answered at a bounded rate.
func TestServersWithoutFlowsAreBounded(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		for i := range userspace.MaxOrphans {
			r.put("vnic-A", fromA(routerOnA, 80, uint16(i)).tcp("A", ""))
		}
		r.silent("vnic-A")
		for i := range 2 * userspace.RefusalBurst {
			r.put("vnic-A", fromA(routerOnA, 81, uint16(i)).tcp("A", ""))
		}
		if n := len(resets(r.got("vnic-A"))); n != userspace.RefusalBurst {
			t.Errorf("%d beyond the bound are answered in no time, want %d", n, userspace.RefusalBurst)
		}
		time.Sleep(userspace.OrphanTime)
		r.got("vnic-A")
		time.Sleep(2 * time.Second)
		if n := len(resets(r.got("vnic-A"))); n == 0 || n > userspace.RefusalBurst+2*userspace.RefusalRate {
			t.Errorf("%d resets in two seconds", n)
		}
		time.Sleep(userspace.OrphanTime)
		o := &r.plane.path.Orphans
		o.Mu.Lock()
		defer o.Mu.Unlock()
		if n := len(o.Known.ByKey); n != 0 {
			t.Errorf("%d are remembered for ever", n)
		}
	})
}

// Row F5+: at the end of the process what a successor picks up is left in silence. Of
// the rest both sides are told: of Caddy's own servers, of policies that do not last, of
// flows that a segment has opened, and of transfers to a client that its segment cannot
// name.
func TestAStopLeavesWhatComesBack(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*config.Config, *rig)
		begin  func(*connection)
		stays  bool
	}{
		"ip_hash": {func(c *config.Config, _ *rig) { lastingPolicies["ip_hash"](c.Bridges["lan"]) }, nil, true},
		"steer":   {func(c *config.Config, _ *rig) { lastingPolicies["steer"](c.Bridges["lan"]) }, nil, true},
		"drained by hand": {func(c *config.Config, _ *rig) { lastingPolicies["ip_hash"](c.Bridges["lan"]) },
			func(c *connection) { _ = c.plane.SetState("a", config.Draining) }, true},
		"round_robin": {func(c *config.Config, _ *rig) { c.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin }, nil, false},
		"a listener's port": {func(c *config.Config, r *rig) {
			lastingPolicies["ip_hash"](c.Bridges["lan"])
			r.plane.OpenPort("a", config.PortRange{Protocol: config.TCP, First: 80, Last: 80})() // it was closed before
		}, nil, false},
		"a transfer": {func(c *config.Config, _ *rig) { lastingPolicies["ip_hash"](c.Bridges["lan"]) },
			func(c *connection) { c.send(10, 1000) }, false},
		"a transfer to a client that is known": {func(c *config.Config, _ *rig) {
			lastingPolicies["ip_hash"](c.Bridges["lan"])
			c.Segments["a"].ClientIP = config.Preserve
		}, func(c *connection) { c.send(10, 1000) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newEmptyRig(t)
				cfg := paperConfig()
				tc.change(cfg, r)
				if err := r.plane.Apply(cfg); err != nil {
					t.Fatal(err)
				}
				r.settle()
				c := r.connection(1000, 5000)
				c.client = fromRouter(farHost, 4000, 80)
				c.fromClient("S", 0, 0, "")
				c.server = fromA(decode(r.one("vnic-A")).src, 80, 4000)
				c.fromServer("SA", 0, 1, "")
				c.fromClient("A", 1, 1, "")
				if tc.begin != nil {
					tc.begin(c)
				}
				nic, vnic := r.machine.devices["nic0"], r.machine.devices["vnic-A"]
				nic.take()
				vnic.take()
				if err := r.plane.Leave(); err != nil {
					t.Fatal(err)
				}
				for _, side := range []*memoryDevice{nic, vnic} {
					if n := len(resets(side.take())); (n == 0) != tc.stays {
						t.Errorf("%d resets to one side, and the flow comes back: %v", n, tc.stays)
					}
				}
			})
		})
	}
}

// send lets the server send a number of segments, which the client has not acknowledged.
func (c *connection) send(segments, size int) {
	for i := range segments {
		c.fromServer("A", uint32(1+i*size), 1, string(make([]byte, size)))
	}
}
