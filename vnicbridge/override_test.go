package vnicbridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// clientOf is a client whose connections are told apart by their ports.
type clientOf struct {
	*rig
	port uint16
}

// begin opens a connection and says which segment got it.
func (c *clientOf) begin() string {
	c.t.Helper()
	c.port++
	c.put("nic0", fromRouter(router, c.port, 80).tcp("S", ""))
	return c.gotIt()
}

// again says where a connection is that was opened before.
func (c *clientOf) again(port uint16) string {
	c.t.Helper()
	c.put("nic0", fromRouter(router, port, 80).tcp("A", "still here"))
	return c.gotIt()
}

// gotIt says which VNIC the last frame went to.
func (c *clientOf) gotIt() string {
	c.t.Helper()
	a, b := len(c.got("vnic-A")), len(c.got("vnic-B"))
	switch {
	case a == 1 && b == 0:
		return "a"
	case a == 0 && b == 1:
		return "b"
	}
	if answer := answerKind(decode(c.one("nic0"))); answer != "RST" {
		c.t.Errorf("refused by %s, not by a RST", answer)
	}
	return "none"
}

func (c *clientOf) wantNew(when, want string) {
	c.t.Helper()
	for range 4 {
		if got := c.begin(); got != want {
			c.t.Fatalf("%s: a new flow goes to %s, want %s", when, got, want)
		}
	}
}

// Row F10: under every policy, a switch gives all new flows to its segment from the
// next one on, and back; no living flow moves, and steer rules go on.
func TestSwitch(t *testing.T) {
	for _, name := range config.Policies {
		t.Run(string(name), func(t *testing.T) {
			cfg := paperConfig()
			cfg.Bridges["lan"].LBPolicy.Policy = name
			cfg.Bridges["lan"].Steer = []config.Rule{{Segment: "a", Ports: []config.PortRange{{Protocol: config.TCP, First: 81, Last: 81}}}}
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				c := &clientOf{r, 4000}
				living := make(map[uint16]string)
				chosen := func() string { // by the policy
					var a, b bool
					for range 40 {
						segment := c.begin()
						living[c.port] = segment
						a, b = a || segment == "a", b || segment == "b"
					}
					return fmt.Sprintf("a %v, b %v", a, b)
				}
				before := chosen()
				for _, to := range []string{"b", "a", "b"} {
					if err := r.plane.Switch("lan", to); err != nil {
						t.Fatal(err)
					}
					c.wantNew("switched to "+to, to)
					r.put("nic0", fromRouter(router, c.port, 81).tcp("S", ""))
					if got := c.gotIt(); got != "a" {
						t.Errorf("switched to %s: a flow that is steered to a goes to %s", to, got)
					}
					for port, segment := range living {
						if got := c.again(port); got != segment {
							t.Errorf("switched to %s: a flow moved from %s to %s", to, segment, got)
						}
					}
				}
				if err := r.plane.Switch("lan", ""); err != nil {
					t.Fatal(err)
				}
				if after := chosen(); after != before {
					t.Errorf("switched back, new flows go to %s; before it was %s", after, before)
				}
			})
		})
	}
}

// While the segment that a bridge is switched to is not available, the others of the
// policy stand in for it.
func TestSwitchedToASegmentThatIsAway(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		c := &clientOf{r, 4000}
		for _, step := range []struct {
			a, b config.State
			want string
		}{{config.Active, config.Active, "b"}, {config.Active, config.Draining, "a"}, {config.Active, config.Stopped, "a"}, {config.Stopped, config.Stopped, "none"}, {config.Stopped, config.Active, "b"}, {config.Active, config.Active, "b"}} {
			if err := errors.Join(r.plane.Switch("lan", "b"), r.plane.SetState("a", step.a), r.plane.SetState("b", step.b)); err != nil {
				t.Fatal(err)
			}
			c.wantNew(fmt.Sprintf("a is %s, b is %s", step.a, step.b), step.want)
		}
		for _, lost := range []string{"it is lost", ""} {
			r.plane.mu.Lock()
			err := r.plane.setLost(r.plane.segments["b"].iface, lost)
			r.plane.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			c.wantNew(fmt.Sprintf("b has lost its VNIC: %q", lost), map[string]string{"it is lost": "a", "": "b"}[lost])
		}
	})
}

func TestSwitchErrors(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
	cfg.Bridges["lan2"] = &config.Bridge{NIC: "nic1", Addresses: prefixes("192.168.2.2/24"), Steer: []config.Rule{{Segment: "b", Protocols: []config.Protocol{config.TCP}}}}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for _, tc := range []struct{ bridge, segment, want string }{
			{"wan", "a", `unknown bridge "wan": the configuration has lan, lan2`},
			{"lan", "b", `bridge lan: lb_policy first a does not name segment "b"`},
			{"lan", "z", `bridge lan: lb_policy first a does not name segment "z"`},
			{"lan2", "b", "bridge lan2: there is no lb_policy to override"},
		} {
			if err := r.plane.Switch(tc.bridge, tc.segment); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("switching %s to %s: %v, want %s", tc.bridge, tc.segment, err, tc.want)
			}
		}
		if to := r.plane.Status().Bridges["lan"].SwitchedTo; to != "" {
			t.Errorf("after errors the bridge is switched to %s", to)
		}
	})
}

// A switch and a weight hold over reloads, also over one that fails and that would
// have ended them, and are forgotten with what they are about.
func TestOverridesOverReloads(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		c := &clientOf{r, 4000}
		old, onlyA, without, heavy := paperConfig(), paperConfig(), paperConfig(), paperConfig()
		onlyA.Bridges["lan"].LBPolicy.Segments = []string{"a"}
		delete(without.Segments, "b")
		without.Bridges["lan"].LBPolicy.Segments = []string{"a"}
		heavy.Segments["b"].Weight = 7
		if err := errors.Join(r.plane.Switch("lan", "b"), r.plane.SetWeight("b", 5)); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			when       string
			cfg        *config.Config
			retained   []*config.Config
			flows      string
			switchedTo string
			weight     int
		}{
			{"the same again", old, nil, "b", "b", 5},
			{"another weight", heavy, nil, "b", "b", 5},
			{"a policy without b, which fails later", onlyA, []*config.Config{old}, "a", "", 5},
			{"back", old, nil, "b", "b", 5},
			{"a policy without b", onlyA, nil, "a", "", 5},
			{"a policy with b again", old, nil, "a", "", 5},
			{"no segment b, which fails later", without, []*config.Config{old}, "a", "", 0},
			{"back again", old, nil, "a", "", 5},
			{"no segment b", without, nil, "a", "", 0},
			{"segment b anew", old, nil, "a", "", 1},
		} {
			if err := r.plane.Apply(step.cfg, step.retained...); err != nil {
				t.Fatal(err)
			}
			r.settle()
			c.wantNew(step.when, step.flows)
			s := r.plane.Status()
			if got := s.Bridges["lan"].SwitchedTo; got != step.switchedTo {
				t.Errorf("%s: the status says that lan is switched to %q, want %q", step.when, got, step.switchedTo)
			}
			if got := s.Segments["b"].Weight; got != step.weight {
				t.Errorf("%s: the status says that b has the weight %d, want %d", step.when, got, step.weight)
			}
			if got := s.Bridges["lan"].Policy.String(); got != step.cfg.Bridges["lan"].LBPolicy.String() {
				t.Errorf("%s: the status says that the policy is %s", step.when, got)
			}
		}
		if err := r.plane.Switch("lan", "b"); err != nil {
			t.Fatal(err)
		}
		if err := r.plane.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.plane.Apply(old); err != nil {
			t.Fatal(err)
		}
		r.settle()
		c.wantNew("a plane that was closed", "a")
	})
}

// Row F10: a weight takes effect with the next flow, moves no living one, and goes
// back to the configuration's.
func TestSetWeight(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyWeightedRoundRobin
	cfg.Segments["a"].Weight = 2
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		c := &clientOf{r, 4000}
		living := make(map[uint16]string)
		wantShare := func(when string, a, b int) {
			t.Helper()
			got := make(map[string]int)
			for range 6 * (a + b) {
				segment := c.begin()
				living[c.port] = segment
				got[segment]++
			}
			if got["a"] != 6*a || got["b"] != 6*b {
				t.Errorf("%s: a gets %d flows and b gets %d, want %d to %d", when, got["a"], got["b"], a, b)
			}
			for port, segment := range living {
				if got := c.again(port); got != segment {
					t.Errorf("%s: a flow moved from %s to %s", when, segment, got)
				}
			}
		}
		setWeight := func(segment string, weight int) {
			t.Helper()
			if err := r.plane.SetWeight(segment, weight); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		wantShare("as configured", 2, 1)
		setWeight("b", 3)
		wantShare("b weighs 3", 2, 3)
		setWeight("a", 1)
		wantShare("a weighs 1", 1, 3)
		if a := r.plane.Status().Segments["a"]; a.Weight != 1 || a.ConfiguredWeight != 2 {
			t.Errorf("the status says %d instead of %d", a.Weight, a.ConfiguredWeight)
		}
		setWeight("a", 0)
		setWeight("b", 0)
		wantShare("as configured again", 2, 1)

		for _, weight := range []int{-1, config.MaxWeight + 1} {
			if err := r.plane.SetWeight("a", weight); err == nil || !strings.Contains(err.Error(), "segment a: weight") {
				t.Errorf("weight %d: %v", weight, err)
			}
		}
		if err := r.plane.SetWeight("z", 2); err == nil || !strings.Contains(err.Error(), "a, b") {
			t.Errorf("an unknown segment: %v", err)
		}
	})
}
