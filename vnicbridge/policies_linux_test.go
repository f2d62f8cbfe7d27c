package vnicbridge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// The tests of this file let many flows begin on both data paths at once. That both
// decide alike is what twins compare.

// decideAlike lets flows begin at the NIC, some of which end again, and tells how
// many the programs have opened without userspace.
func decideAlike(t *testing.T, w *twins, cfg *config.Config) (opened uint64) {
	t.Helper()
	w.begin(t, cfg)
	before := w.opened()
	random := rand.New(rand.NewPCG(20, 21))
	for range 300 {
		client := addressIn(random, beyond[random.IntN(len(beyond))]).String()
		c := fromRouter(client, uint16(1024+random.IntN(60000)), pick(twinPorts, byte(random.Uint32())))
		switch random.IntN(8) {
		case 0:
			c.dport = 0
			w.put("nic0", c.echo("x"))
		case 1, 2:
			w.put("nic0", c.udp("x"))
		case 3: // unknown: to be picked up again, or refused
			w.put("nic0", c.tcp("A", "x"))
		case 4: // a load that ends
			w.put("nic0", c.tcp("S", ""))
			w.put("nic0", c.tcp("R", ""))
		default:
			w.put("nic0", c.tcp("S", ""))
		}
	}
	return w.opened() - before
}

func addressIn(random *rand.Rand, p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= byte(random.IntN(2)) << (7 - bit%8)
	}
	return netip.AddrFrom4(a)
}

// beyond is where clients may come from.
var beyond = prefixes("8.0.0.0/7", "203.0.113.0/24")

// Round robin takes turns that both halves of the kernel data path share; hashes are
// the same to the bit; loads count alike.
func TestPoliciesDecideAlike(t *testing.T) {
	w := newTwins(t, twinConfig())
	for _, policy := range config.Policies {
		if policy == config.PolicyRandom {
			continue // each draws its own
		}
		for _, weights := range [][3]int{{1, 1, 1}, {5, 1, 2}, {256, 3, 1}} {
			t.Run(fmt.Sprint(policy, weights), func(t *testing.T) {
				cfg := twinConfig()
				cfg.Bridges["lan"].LBPolicy.Policy = policy
				for i, name := range []string{"a", "b", "front"} {
					cfg.Segments[name].Weight = weights[i]
				}
				if decideAlike(t, w, cfg) < 200 {
					t.Error("it was userspace that opened the flows")
				}
			})
		}
	}
}

// Steer rules of every matcher and of all of them together, with prefixes that
// overlap and ranges that touch.
func TestSteerRulesDecideAlike(t *testing.T) {
	w := newTwins(t, twinConfig())
	names := []string{"a", "b", "front"}
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("rules ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 22))
			cfg := twinConfig()
			cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyFlowHash
			for range 1 + random.IntN(12) {
				cfg.Bridges["lan"].Steer = append(cfg.Bridges["lan"].Steer, randomRule(random, names[random.IntN(3)]))
			}
			if seed%4 == 0 {
				cfg.Bridges["lan"].LBPolicy = nil
			}
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			decideAlike(t, w, cfg)
		})
	}
}

// randomRule has matchers of some kinds, or all.
func randomRule(random *rand.Rand, segment string) config.Rule {
	r := config.Rule{Segment: segment}
	kinds := 1 + random.IntN(7)
	if kinds&1 != 0 {
		for range 1 + random.IntN(40) {
			p := netip.PrefixFrom(addressIn(random, beyond[random.IntN(2)]), 7+random.IntN(26))
			r.Clients = append(r.Clients, p.Masked())
		}
	}
	if kinds&2 != 0 {
		for range 1 + random.IntN(4) {
			first := uint16(random.IntN(500))
			r.Ports = append(r.Ports, config.PortRange{Protocol: []config.Protocol{config.TCP, config.UDP}[random.IntN(2)], First: first, Last: first + uint16(random.IntN(500))})
		}
	}
	if kinds&4 != 0 {
		r.Protocols = []config.Protocol{config.TCP, config.UDP, config.ICMP}[random.IntN(3):]
	}
	return r
}

// What does not fit the tables of the kernel data path is decided in userspace, and
// alike: more rules and more ranges of ports than they hold.
func TestWhatDoesNotFitIsDecidedInUserspace(t *testing.T) {
	w := newTwins(t, twinConfig())
	for name, change := range map[string]func(*config.Config){
		"steer rules": func(c *config.Config) {
			for i := range uint16(200) {
				c.Bridges["lan"].Steer = append(c.Bridges["lan"].Steer, config.Rule{Segment: "a", Ports: []config.PortRange{{Protocol: config.TCP, First: 1 + 3*i, Last: 2 + 3*i}}})
			}
		},
		"port ranges": func(c *config.Config) {
			c.Bridges["lan"].LBPolicy.Segments = []string{"a"}
			c.Segments["a"].Ports = nil
			for i := range uint16(100) {
				c.Segments["a"].Ports = append(c.Segments["a"].Ports, config.PortRange{Protocol: config.TCP, First: 1 + 5*i, Last: 3 + 5*i})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := twinConfig()
			cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin
			change(cfg)
			if n := decideAlike(t, w, cfg); n > 0 {
				t.Errorf("the programs have opened %d flows", n)
			}
			if w.rigs[1].plane.path.FlowCount() == 0 {
				t.Error("no flow began")
			}
		})
	}
}
