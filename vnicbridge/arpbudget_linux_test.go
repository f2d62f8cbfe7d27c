package vnicbridge

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/host"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// arpGate is what stands before the forwarder on a NIC: on either data path, a program
// that leaves out ARP.
type arpGate struct {
	lets    func(frame []byte) bool
	dropped func() (overload, others uint64)
}

// Row L7: ARP that is no business of ours is dropped early, and ARP of each kind has a
// budget: a flood of one keeps no other out. What is dropped is counted.
func TestARPHasBudgets(t *testing.T) {
	gates := map[string]func(*testing.T) arpGate{"userspace": socketGate, "kernel": programGate}
	for _, path := range testedPaths {
		t.Run(path, func(t *testing.T) {
			gate := gates[path](t)
			stranger := config.MAC{0x02, 1, 1, 1, 1, 1}
			kinds := []struct {
				name  string
				frame []byte
			}{
				{"questions for us", arp(true, stranger, "192.168.1.99", config.MAC{}, pseudo)},
				{"answers to us", arp(false, stranger, "192.168.1.99", nicMAC, pseudo)},
				{"a host that we send to", arp(true, hostMAC, otherHost, config.MAC{}, otherHost)},
				{"the gateway", arp(true, routerMAC, router, config.MAC{}, "192.168.1.5")},
			}
			for _, kind := range kinds {
				if !gate.lets(kind.frame) {
					t.Errorf("%s: not let in", kind.name)
				}
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
			for i, kind := range kinds {
				const flood = 4 * 68 * 60 // ARP_PACKETS, ARP_INTERVALS of bpf/limit.h
				in := 0
				for range flood {
					if gate.lets(kind.frame) {
						in++
					}
				}
				if in < flood/8 || in > flood*3/4 {
					t.Errorf("%s: of a flood of %d, %d were let in", kind.name, flood, in)
				}
				for _, other := range kinds[i+1:] {
					if !gate.lets(other.frame) {
						t.Errorf("a flood of %s keeps %s out", kind.name, other.name)
					}
				}
			}
			if overload, _ := gate.dropped(); overload == 0 {
				t.Error("what was beyond the budgets was not counted")
			}
		})
	}
}

// socketGate is the filter of a NIC's packet socket.
func socketGate(t *testing.T) arpGate {
	l := host.NewLetIn(netip.MustParseAddr(pseudo))
	t.Cleanup(func() { _ = l.Close() })
	if l.Program == nil {
		t.Fatalf("no eBPF filter: %v", l.Load(netip.MustParseAddr(pseudo)))
	}
	l.Know(mustAddr(router), link.ARPGateway)
	l.Know(mustAddr("192.168.1.99"), link.ARPNeighbour)
	l.Know(mustAddr("192.168.1.99"), link.ARPAnybody) // it is forgotten again
	l.Know(mustAddr(otherHost), link.ARPNeighbour)
	var sum map[packet.DropReason]uint64
	return arpGate{
		lets: func(frame []byte) bool {
			// The kernel takes a header off before it runs a socket's filter.
			n, err := l.Program.Run(&ebpf.RunOptions{Data: append(make([]byte, packet.EthHeaderLen), frame...)})
			if err != nil {
				t.Fatal(err)
			}
			return n != 0
		},
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
func programGate(t *testing.T) arpGate {
	r := newEmptyRig(t)
	if err := r.plane.Apply(paperConfig()); err != nil {
		t.Fatal(err)
	}
	nic := r.plane.bridges["lan"].iface
	kernel := r.plane.datapaths.kernelPath()
	kernel.SetNeighbour(nic, mustAddr(otherHost), hostMAC)
	dropped := func() (overload, others uint64) {
		drops := kernel.Counters(nic).Drops
		return drops[packet.DropOverload], drops[packet.DropARP]
	}
	return arpGate{
		lets: func(frame []byte) bool {
			overload, others := dropped()
			if _, _, err := r.machine.device("nic0").program(asFrame(frame)); err != nil {
				t.Fatal(err)
			}
			nowOverload, nowOthers := dropped()
			return overload == nowOverload && others == nowOthers
		},
		dropped: dropped,
	}
}
