package vnicbridge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
)

// testSegments are candidates by the names a, b, c and so on, with the weights
// given.
func testSegments(weights ...int) map[string]rules.Candidate {
	segments := make(map[string]rules.Candidate)
	for i, w := range weights {
		name := string(rune('a' + i))
		segments[name] = rules.Candidate{Name: name, Iface: iface.New(0, name), Weight: w}
	}
	return segments
}

func policyTable(policy config.PolicyName, segments map[string]rules.Candidate) *rules.DecisionTable {
	names := config.SortedKeys(segments)
	return rules.CompileDecisions(&config.Bridge{LBPolicy: &config.Policy{Policy: policy, Segments: names}}, segments, iface.New(0, "nic0"), rules.Key{K0: 1, K1: 2})
}

func name(p *iface.Iface) string {
	if p == nil {
		return "none"
	}
	return p.Name
}

// randomFlow is a flow from anywhere.
func randomFlow(random *rand.Rand) packet.Tuple {
	return packet.Tuple{
		Src: packet.AddrFrom4([]byte{byte(1 + random.IntN(220)), byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32())}),
		Dst: mustAddr(pseudo), Sport: uint16(random.Uint32()), Dport: 80, Proto: config.TCP,
	}
}

func TestSteerRules(t *testing.T) {
	segments := testSegments(1, 1, 1)
	a, b, c := segments["a"].Iface, segments["b"].Iface, segments["c"].Iface
	bridge := &config.Bridge{
		Steer: []config.Rule{
			{Segment: "a", Ports: []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.UDP, First: 443, Last: 443}}},
			{Segment: "b", Clients: prefixes("10.20.0.0/16", "10.30.0.0/16"), Protocols: []config.Protocol{config.TCP}},
			{Segment: "c", Protocols: []config.Protocol{config.ICMP}},
			{Segment: "b", Ports: []config.PortRange{{Protocol: config.TCP, First: 8000, Last: 8099}}, Clients: prefixes("0.0.0.0/0")},
		},
	}
	table := rules.CompileDecisions(bridge, segments, iface.New(0, "nic0"), rules.Key{})
	for _, tc := range []struct {
		client string
		proto  config.Protocol
		port   uint16
		want   *iface.Iface
	}{
		{"10.20.1.1", config.TCP, 80, a}, // the first match wins
		{"10.20.1.1", config.TCP, 81, b},
		{"10.30.255.255", config.TCP, 81, b},
		{"10.40.1.1", config.TCP, 81, nil},
		{"10.20.1.1", config.UDP, 80, nil}, // another protocol's port
		{"10.40.1.1", config.UDP, 443, a},
		{"10.20.1.1", config.ICMP, 0, c},
		{"10.40.1.1", config.TCP, 8099, b},
		{"10.40.1.1", config.TCP, 8100, nil},
	} {
		flow := packet.Tuple{Src: mustAddr(tc.client), Dst: mustAddr(pseudo), Dport: tc.port, Proto: tc.proto}
		if got, _ := table.Decide(flow); got != tc.want {
			t.Errorf("%s %s/%d: got %v, want %v", tc.client, tc.proto, tc.port, name(got), name(tc.want))
		}
	}
	// A rule whose segment is not available does not fall through.
	delete(segments, "a")
	table = rules.CompileDecisions(bridge, segments, iface.New(0, "nic0"), rules.Key{})
	if got, _ := table.Decide(packet.Tuple{Src: mustAddr("10.20.1.1"), Dport: 80, Proto: config.TCP}); got != nil {
		t.Errorf("fell through to %s", got.Name)
	}
}

func TestPoliciesThatGoInOrder(t *testing.T) {
	for _, tc := range []struct {
		policy  config.PolicyName
		weights []int
		gone    string
		want    string
	}{
		{config.PolicyFirst, []int{1, 1, 1}, "", "a a a a"},
		{config.PolicyFirst, []int{1, 1, 1}, "a", "b b b b"},
		{config.PolicyRoundRobin, []int{1, 5, 1}, "", "a b c a"},
		{config.PolicyRoundRobin, []int{1, 1, 1}, "b", "a c a c"},
		{config.PolicyRoundRobin, []int{1, 1, 1}, "a b c", "none none none none"},
		{config.PolicyWeightedRoundRobin, []int{5, 1, 1}, "", "a a b a c a a a a b a c a a"},
		{config.PolicyWeightedRoundRobin, []int{2, 1, 1}, "b", "a c a a c a"},
	} {
		t.Run(fmt.Sprint(tc.policy, tc.weights, tc.gone), func(t *testing.T) {
			segments := testSegments(tc.weights...)
			for _, gone := range strings.Fields(tc.gone) {
				delete(segments, gone)
			}
			bridge := &config.Bridge{LBPolicy: &config.Policy{Policy: tc.policy, Segments: []string{"a", "b", "c"}}}
			table := rules.CompileDecisions(bridge, segments, iface.New(0, "nic0"), rules.Key{})
			var got []string
			for range strings.Fields(tc.want) {
				segment, _ := table.Decide(packet.Tuple{Proto: config.TCP})
				got = append(got, name(segment))
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("picked %v, want %s", got, tc.want)
			}
		})
	}
}

// Under every policy by weight each segment gets its share.
func TestWeightsHold(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, policy := range []config.PolicyName{config.PolicyWeightedRoundRobin, config.PolicyRandom, config.PolicyIPHash, config.PolicyFlowHash} {
		for _, weights := range [][]int{{1, 1}, {1, 2, 3}, {10, 1, 1, 1}, {256, 128}} {
			t.Run(fmt.Sprint(policy, weights), func(t *testing.T) {
				table := policyTable(policy, testSegments(weights...))
				got := make(map[string]int)
				const flows = 40_000
				for range flows {
					segment, _ := table.Decide(randomFlow(random))
					got[segment.Name]++
				}
				total := 0
				for _, w := range weights {
					total += w
				}
				for i, w := range weights {
					name := string(rune('a' + i))
					want := float64(flows) * float64(w) / float64(total)
					if math.Abs(float64(got[name])-want) > flows/50 {
						t.Errorf("%s got %d flows, want about %.0f", name, got[name], want)
					}
				}
			})
		}
	}
}

// ip_hash gives a client one segment whatever its port; flow_hash does not.
func TestHashPolicies(t *testing.T) {
	byClient := policyTable(config.PolicyIPHash, testSegments(1, 1, 1))
	byFlow := policyTable(config.PolicyFlowHash, testSegments(1, 1, 1))
	flow := randomFlow(rand.New(rand.NewPCG(9, 9)))
	clients, flows := make(map[string]bool), make(map[string]bool)
	for port := range uint16(100) {
		flow.Sport = port
		segment, lasting := byClient.Decide(flow)
		clients[segment.Name] = true
		segment, lastingToo := byFlow.Decide(flow)
		flows[segment.Name] = true
		if again, _ := byFlow.Decide(flow); again != segment || !lasting || !lastingToo {
			t.Error("the same flow is not given the same segment")
		}
	}
	if len(clients) != 1 || len(flows) != 3 {
		t.Errorf("one client got %d segments by its address, %d by its flows", len(clients), len(flows))
	}
}

// Maglev's promise: when one of n segments goes, its own flows move, and few
// others (NSDI 2016, §5.4).
func TestMaglevDisruption(t *testing.T) {
	random := rand.New(rand.NewPCG(10, 11))
	for n := 2; n <= 8; n++ {
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 1
		}
		segments := testSegments(weights...)
		before := policyTable(config.PolicyFlowHash, segments)
		delete(segments, "b")
		after := policyTable(config.PolicyFlowHash, segments)
		const flows = 20_000
		moved, lost := 0, 0
		for range flows {
			flow := randomFlow(random)
			was, _ := before.Decide(flow)
			is, _ := after.Decide(flow)
			switch {
			case was.Name == "b":
				lost++
			case was != is:
				moved++
			}
		}
		if share := float64(moved) / float64(flows-lost); n > 2 && share > 0.12 || n == 2 && moved > 0 {
			t.Errorf("of %d segments one went: %.1f %% of the others' flows moved", n, share*100)
		}
	}
}

// least_conn gives a new flow to the segment with the fewest for its weight,
// while flows come and go.
func TestLeastConnUnderChurn(t *testing.T) {
	random := rand.New(rand.NewPCG(12, 13))
	segments := testSegments(1, 2, 4)
	table := policyTable(config.PolicyLeastConn, segments)
	var living []*iface.Iface
	for range 50_000 {
		if len(living) > 700 || len(living) > 100 && random.IntN(2) == 0 {
			i := random.IntN(len(living))
			living[i].Gauges().Load.Add(-1)
			living[i] = living[len(living)-1]
			living = living[:len(living)-1]
			continue
		}
		segment, _ := table.Decide(randomFlow(random))
		segment.Gauges().Load.Add(1)
		living = append(living, segment)
		load := func(name string) float64 {
			return float64(segments[name].Iface.Gauges().Load.Load()-1) / float64(segments[name].Weight)
		}
		for name := range segments {
			if load(segment.Name) > load(name)+1 {
				t.Fatalf("%s got a flow with %v, and %s has %v", segment.Name, load(segment.Name), name, load(name))
			}
		}
	}
}

// Row F5: under policies that last, a connection that the bridge has forgotten is
// picked up again, and is half open until the segment answers; under others its
// client is told at once.
func TestPickUp(t *testing.T) {
	for _, policy := range config.Policies {
		t.Run(string(policy), func(t *testing.T) {
			cfg := paperConfig()
			cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: policy, Segments: []string{"a"}}
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				c := fromRouter(router, 4000, 80)
				r.put("nic0", c.tcp("A", "middle"))
				if policy != config.PolicyIPHash && policy != config.PolicyFlowHash {
					if answerKind(decode(r.one("nic0"))) != "RST" {
						t.Error("no RST")
					}
					r.silent("vnic-A")
					return
				}
				if d := decode(r.one("vnic-A")); d.src != routerOnA || d.payload != "middle" {
					t.Errorf("%+v", d)
				}
				if class := r.onlyFlow().Class(); class != flow.ClassHalfOpen {
					t.Errorf("before the answer the flow is of class %d", class)
				}
				r.put("vnic-A", fromA(routerOnA, 80, 4000).tcp("A", "answer"))
				r.one("nic0")
				if class := r.onlyFlow().Class(); class != flow.ClassEstablished {
					t.Errorf("after the answer the flow is of class %d", class)
				}
				// Neither a RST nor the second half of a handshake is picked up.
				r.put("nic0", fromRouter(router, 4001, 80).tcp("R", ""), fromRouter(router, 4002, 80).tcp("SA", ""))
				r.silent("vnic-A")
			})
		})
	}
}

func (r *rig) onlyFlow() (only *flow.Flow) {
	r.t.Helper()
	r.plane.path.EachFlow(func(f *flow.Flow) { only = f })
	if only == nil {
		r.t.Fatal("there is no flow")
	}
	return only
}

// Row F10: a change of state touches new flows only, and activate brings a segment
// back. It survives a reload.
func TestStates(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(router, 4000)
		newFlow := func(port uint16) (segment string) {
			r.got("nic0")
			r.put("nic0", fromRouter(router, port, 80).tcp("S", ""))
			switch a, b := len(r.got("vnic-A")), len(r.got("vnic-B")); {
			case a == 1 && b == 0:
				return "a"
			case a == 0 && b == 1:
				return "b"
			}
			if answerKind(decode(r.one("nic0"))) != "RST" {
				t.Error("refused without a RST")
			}
			return "none"
		}
		set := func(segment string, state config.State) {
			t.Helper()
			if err := r.plane.SetState(segment, state); err != nil {
				t.Fatal(err)
			}
		}
		for i, state := range []config.State{config.Draining, config.Stopped} {
			set("a", state)
			if got := newFlow(uint16(5000 + i)); got != "b" {
				t.Errorf("a is %s: a new flow goes to %s", state, got)
			}
			r.put("nic0", fromRouter(router, 4000, 80).tcp("A", "old"))
			r.one("vnic-A")
			if err := r.plane.Apply(paperConfig()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := newFlow(uint16(5100 + i)); got != "b" {
				t.Errorf("a is %s: after a reload a new flow goes to %s", state, got)
			}
			if s := r.plane.Status().Segments["a"].State; s != state {
				t.Errorf("the status says %s", s)
			}
		}
		set("b", config.Draining)
		if got := newFlow(5200); got != "none" {
			t.Errorf("none is active: a new flow goes to %s", got)
		}
		set("a", config.Active)
		if got := newFlow(5300); got != "a" {
			t.Errorf("a is active again: a new flow goes to %s", got)
		}
		if err := r.plane.SetState("z", config.Draining); err == nil || !strings.Contains(err.Error(), "a, b") {
			t.Errorf("an unknown segment: %v", err)
		}
	})
}

// client_ip preserve: the segment sees the clients' own addresses, and answers
// them.
func TestPreservedClients(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].ClientIP = config.Preserve
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		for _, client := range []string{router, farHost} {
			r.put("nic0", fromRouter(client, 4000, 80).tcp("S", ""))
			if d := decode(r.one("vnic-A")); d.src != client || d.sport != 4000 || d.dst != serverA || !d.valid {
				t.Errorf("in: %+v", d)
			}
			r.put("vnic-A", fromA(client, 80, 4000).tcp("SA", ""))
			if d := decode(r.one("nic0")); d.src != pseudo || d.dst != client || d.dstMAC != routerMAC || !d.valid {
				t.Errorf("out: %+v", d)
			}
		}
		// Its own flows still go by its egress only.
		r.put("vnic-A", fromA(farHost, 9, 80).tcp("S", ""))
		r.silent("nic0")
	})
}
