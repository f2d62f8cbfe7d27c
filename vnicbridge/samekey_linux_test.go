package vnicbridge

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/rules"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// Row H6: machines with one key and the same configuration give a flow the same segment, and a
// client the same alias. What is not of the configuration differs between the machines: their own
// secret, and the numbers of their ifaces.
func TestOneKeyDecidesAlike(t *testing.T) {
	for f := range config.Families {
		for _, policy := range []config.PolicyName{config.PolicyFlowHash, config.PolicyIPHash} {
			t.Run(fmt.Sprintf("%s %s", f, policy), func(t *testing.T) {
				bubble(t, func(t *testing.T) { compareMachines(t, f, policy) })
			})
		}
	}
}

// compareMachines compares tuples, a million in the eight cases together: by the compiled rules, which
// both data paths execute, and some of them by the frames that leave.
func compareMachines(t *testing.T, f config.Family, policy config.PolicyName) {
	const tuples, carried, apart = 125_000, 4000, 1000
	first := newKeyedRig(t, keyedConfig(policy, config.Key{1: 7}), 1)
	second := newKeyedRig(t, keyedConfig(policy, config.Key{1: 7}), 2)
	other := newKeyedRig(t, keyedConfig(policy, config.Key{1: 8}), 1)
	random := rand.New(rand.NewPCG(30, uint64(f)))
	ruled := func(r *rig) func(packet.Tuple) choice {
		rules, nic := r.plane.path.CurrentRules(), r.plane.bridges["lan"].iface.Of(f)
		return func(flow packet.Tuple) choice { return ruledBy(rules, nic, flow) }
	}
	byFirst, bySecond, byOther := ruled(first), ruled(second), ruled(other)
	chosen, same := make(map[config.MAC]int), 0
	for i := range tuples {
		flow := randomTuple(random, f)
		choice := byFirst(flow)
		if again := bySecond(flow); again != choice {
			t.Fatalf("%+v gets %v, and on another machine %v", flow, choice, again)
		}
		chosen[choice.vnic]++
		if i >= carried {
			continue
		}
		for _, r := range []*rig{first, second} {
			if got := r.carriedChoice(flow); got != choice {
				t.Fatalf("%+v gets %v, and by the rules %v", flow, got, choice)
			}
		}
		if i < apart && byOther(flow) == choice {
			same++
		}
	}
	for _, mac := range []config.MAC{vnicAMAC, vnicBMAC} {
		if chosen[mac] < tuples/4 {
			t.Errorf("the segments got %v", chosen)
		}
	}
	if same > apart/50 {
		t.Errorf("of %d flows %d get the same segment and alias under another key", apart, same)
	}
}

// keyedConfig has three segments, of which the policy chooses two by weight.
func keyedConfig(policy config.PolicyName, key config.Key) *config.Config {
	cfg := dualConfig()
	cfg.Key = key
	cfg.Segments["b"].Weight = 2
	cfg.Segments["c"] = &config.Segment{
		Interface: "vnic-C", Addresses: prefixes("192.168.70.1/24", "fd00:70::1/64"), MAC: config.MAC{0x52, 5: 7},
		Ports: []config.PortRange{config.AnyPort},
	}
	cfg.Bridges["lan"].LBPolicy.Policy = policy
	cfg.Bridges["lan"].Steer = []config.Rule{{Segment: "c", Clients: prefixes("8.0.0.0/10", "2001:db8:8::/48")}}
	return cfg
}

// newKeyedRig returns one of several machines with the same configuration.
func newKeyedRig(t *testing.T, cfg *config.Config, machine byte) *rig {
	t.Helper()
	r := newEmptyRig(t)
	r.plane.secret = func() ([16]byte, error) { return [16]byte{machine}, nil }
	if machine > 1 { // other segments have taken the first numbers
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		alone := &config.Config{Key: cfg.Key, Segments: map[string]*config.Segment{"c": cfg.Segments["c"]}}
		if err := r.plane.Apply(alone); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.plane.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	r.settle()
	r.plane.bridges["lan"].links[config.IPv6].Table().Hear(mustAddr(router6), routerMAC, true, r.plane.now())
	return r
}

// randomTuple is a UDP flow from anywhere beyond the router.
func randomTuple(random *rand.Rand, f config.Family) packet.Tuple {
	flow := packet.Tuple{Sport: uint16(1024 + random.IntN(60000)), Dport: uint16(1 + random.IntN(2000)), Proto: config.UDP}
	if f == config.IPv6 {
		flow.Src, flow.Dst = mustAddr("2001:db8:8::"), mustAddr(pseudo6)
		flow.Src[5] = byte(random.IntN(16))
		binary.BigEndian.PutUint16(flow.Src[6:], uint16(random.Uint32()))
		binary.BigEndian.PutUint64(flow.Src[8:], random.Uint64())
		return flow
	}
	flow.Src, flow.Dst = packet.AddrFrom4(binary.BigEndian.AppendUint32(nil, 8<<24|random.Uint32N(1<<25))), mustAddr(pseudo)
	return flow
}

// choice is the VNIC to which a new flow goes, by its MAC, and the alias of the client there.
type choice struct {
	vnic  config.MAC
	alias packet.Addr
}

// ruledBy returns the choice by the compiled rules.
func ruledBy(rules *rules.Ruleset, nic *iface.Iface, flow packet.Tuple) choice {
	bridge := rules.Bridges[nic]
	vnic, _ := bridge.Decisions.Decide(flow)
	for reply := range rules.Segments[vnic].InboundReplies(bridge, flow) {
		return choice{vnic.MAC(), reply.Dst}
	}
	return choice{}
}

// carriedChoice returns the choice by what becomes of a packet. The packet does not pass by the
// rig's loops, which would take too long.
func (r *rig) carriedChoice(flow packet.Tuple) choice {
	r.t.Helper()
	c := fromRouter(flow.Src.Netip().String(), flow.Sport, flow.Dport)
	c.dst = flow.Dst.Netip().String()
	nic, raw := r.machine.devices["nic0"], c.udp("x")
	var out []byte
	if nic.program != nil {
		frame, _, err := nic.program(asFrame(raw))
		if err != nil {
			r.t.Fatal(err)
		}
		out = frame
	} else {
		r.plane.path.ReceiveBatch(&userspace.Arrival{In: r.portOf(nic), Out: new(iface.Outbox)}, []packet.Frame{asFrame(raw)})
		for _, name := range []string{"vnic-A", "vnic-B", "vnic-C"} {
			for _, frame := range r.got(name) {
				out = frame
			}
		}
	}
	if out == nil || config.MAC(out[:6]) == nicMAC {
		r.t.Fatalf("no flow begins with %x: %x", raw, out)
	}
	d := decode(out)
	return choice{d.dstMAC, mustAddr(d.src)}
}
