package vnicbridge

import (
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// nicGate is what stands before the forwarder on a NIC: on either data path, a program
// that leaves out messages of ARP and NDP.
type nicGate struct {
	lets    func(frame []byte) bool
	put     func(frame []byte) // like lets, but faster
	dropped func() (overload, others uint64)
}

// nicGates make the gates of a bridge whose NIC has both families (dualConfig).
var nicGates = map[string]func(*testing.T) nicGate{"userspace": socketGate, "kernel": programGate}

// Row L7: ARP that is no business of ours is dropped early, and ARP of each kind has a
// budget: a flood of one keeps no other out. What is dropped is counted.
func TestARPHasBudgets(t *testing.T) {
	for _, path := range testedPaths {
		t.Run(path, func(t *testing.T) {
			gate := nicGates[path](t)
			stranger := config.MAC{0x02, 1, 1, 1, 1, 1}
			kinds := []namedFrame{
				{"questions for us", arp(true, stranger, "192.168.1.99", config.MAC{}, pseudo)},
				{"answers to us", arp(false, stranger, "192.168.1.99", nicMAC, pseudo)},
				{"a host that we send to", arp(true, hostMAC, otherHost, config.MAC{}, otherHost)},
				{"the gateway", arp(true, routerMAC, router, config.MAC{}, "192.168.1.5")},
			}
			if !gate.lets(arp(true, stranger, pseudo, config.MAC{}, pseudo)) {
				t.Error("a rival: not let in")
			}
			if gate.lets(arp(true, stranger, "192.168.1.99", config.MAC{}, "192.168.1.98")) {
				t.Error("let in, though it is between others")
			}
			if _, others := gate.dropped(); others != 1 {
				t.Errorf("%d frames between others were counted, want 1", others)
			}
			gate.wantBudgets(t, kinds)
		})
	}
}

type namedFrame struct {
	name  string
	frame []byte
}

// wantBudgets lets in a frame of each kind, and then floods the gate with each kind in turn:
// a part of the flood goes in, and the other kinds still do.
func (g nicGate) wantBudgets(t *testing.T, kinds []namedFrame) {
	t.Helper()
	for _, kind := range kinds {
		if !g.lets(kind.frame) {
			t.Errorf("%s: not let in", kind.name)
		}
	}
	for i, kind := range kinds {
		const flood = 4 * 4000 // as many may come at once: MESSAGE_COST, MESSAGE_BURST of bpf/limit.h
		before, _ := g.dropped()
		for range flood {
			g.put(kind.frame)
		}
		overload, _ := g.dropped()
		if in := flood - (overload - before); in < flood/8 || in > flood*3/4 {
			t.Errorf("%s: of a flood of %d, %d were let in", kind.name, flood, in)
		}
		for _, other := range kinds[i+1:] {
			if !g.lets(other.frame) {
				t.Errorf("a flood of %s keeps %s out", kind.name, other.name)
			}
		}
	}
}

// Row L2: what a flood may bring to userspace comes spread over time. Else userspace would have
// no time for others for some milliseconds, again and again.
func TestAFloodIsSpread(t *testing.T) {
	protocol := fromRouter(farHost, 1000, 80).udp("not known")
	protocol[packet.EthHeaderLen+9] = 47
	// The programs of the kernel path have the same limit (limit.h). One run of those takes longer
	// here than the limit allows for a frame.
	gate := socketGate(t)
	for _, frame := range [][]byte{protocol, rawIPv6(dualStranger, dualPseudo, 59, 64)} {
		gate.wantSpread(t, frame)
	}
}

// wantSpread floods a gate with a frame that only userspace can carry.
func (g nicGate) wantSpread(t *testing.T, frame []byte) {
	t.Helper()
	const each, step = 25 * time.Microsecond, 1 << 20 * time.Nanosecond
	for tried := 0; g.lets(frame); tried++ { // until the burst that may come at once is over
		if tried == 1_000_000 {
			t.Fatal("there is no limit")
		}
	}
	in, n, refused := 0, 0, time.Time{} // n went in since a frame was refused, when nothing was left
	for range 100_000 {
		if now := time.Now(); !g.lets(frame) {
			n, refused = 0, now
			continue
		}
		in, n = in+1, n+1
		if most := int((time.Since(refused)+step)/each) + 1; !refused.IsZero() && n > most {
			t.Fatalf("%d went in within %v, want %d at most", n, time.Since(refused), most)
		}
	}
	if in == 0 {
		t.Error("nothing went in")
	}
}

// socketGate is the filter of a NIC's packet socket.
func socketGate(t *testing.T) nicGate {
	pseudos := host.PseudoAddresses{mustIP(pseudo), mustIP(dualPseudo)}
	l := host.NewLetIn(pseudos)
	t.Cleanup(func() { _ = l.Close() })
	if l.Program == nil {
		t.Fatalf("no eBPF filter: %v", l.Load(pseudos))
	}
	for _, hosts := range [][3]string{{router, "192.168.1.99", otherHost}, {dualRouter, "2001:db8:1::99", dualHost}} {
		l.Know(mustAddr(hosts[0]), link.MessageGateway)
		l.Know(mustAddr(hosts[1]), link.MessageNeighbour)
		l.Know(mustAddr(hosts[1]), link.MessageAnybody) // it is forgotten again
		l.Know(mustAddr(hosts[2]), link.MessageNeighbour)
	}
	var sum map[packet.DropReason]uint64
	lets := func(frame []byte) bool {
		// The kernel takes a header off before it runs a socket's filter.
		n, err := l.Program.Run(&ebpf.RunOptions{Data: append(make([]byte, packet.EthHeaderLen), frame...)})
		if err != nil {
			t.Fatal(err)
		}
		return n != 0
	}
	return nicGate{
		lets: lets, put: func(frame []byte) { lets(frame) },
		dropped: func() (overload, others uint64) {
			if sum == nil {
				sum = make(map[packet.DropReason]uint64)
			}
			for reason, n := range l.LeftOut() {
				sum[reason] += n.Packets
			}
			return sum[packet.DropOverload], sum[packet.DropARP]
		},
	}
}

// programGate is the NIC's program of the kernel data path.
func programGate(t *testing.T) nicGate {
	r := newEmptyRig(t)
	if err := r.plane.Apply(dualConfig()); err != nil {
		t.Fatal(err)
	}
	nic, device := r.plane.bridges["lan"].iface, r.machine.device("nic0")
	kernel := r.plane.datapaths.kernelPath()
	kernel.SetNeighbour(nic, mustAddr(otherHost), hostMAC)
	kernel.SetNeighbour(nic.V6, mustAddr(dualHost), hostMAC)
	gate := nicGate{dropped: func() (overload, others uint64) {
		for _, p := range nic.Each() {
			drops := kernel.Counters(p).Drops
			overload += drops[packet.DropOverload]
			others += drops[packet.DropARP]
		}
		return overload, others
	}}
	run := func(frame []byte) (code uint32) {
		_, code, err := device.program(asFrame(frame))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	gate.put = func(frame []byte) { run(frame) }
	gate.lets = func(frame []byte) bool {
		overload, others := gate.dropped()
		budgets := kernel.(memoryPath).messageBudgets(r, device)
		code := run(frame)
		nowOverload, nowOthers := gate.dropped()
		given := code == tcRedirect || !slices.Equal(kernel.(memoryPath).messageBudgets(r, device), budgets)
		return given && overload == nowOverload && others == nowOthers
	}
	return gate
}
