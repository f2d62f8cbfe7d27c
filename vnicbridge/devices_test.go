package vnicbridge

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row L3: while a device is made again, packets of known flows are dropped. Neither side
// is reset, and the flows go on when the device is back.
func TestFlowsWaitForTheirDevice(t *testing.T) {
	for _, policy := range []config.PolicyName{config.PolicyFirst, config.PolicyRoundRobin, config.PolicyIPHash} {
		for _, lost := range []string{"vnic-A", "nic0"} {
			t.Run(string(policy)+" "+lost, func(t *testing.T) {
				cfg := paperConfig()
				cfg.Bridges["lan"].LBPolicy.Policy = policy
				cfg.Bridges["lan"].LBPolicy.Segments = []string{"a"}
				onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
					r.open(router, 4000)
					client, server := fromRouter(router, 4000, 80), fromA(routerOnA, 80, 4000)
					for range 3 {
						r.breaks(lost)
						if lost == "vnic-A" {
							r.put("nic0", client.tcp("A", "meanwhile"), client.tcp("FA", ""))
							r.silent("nic0")
						} else {
							r.put("vnic-A", server.tcp("A", "meanwhile"), server.tcp("FA", ""))
							r.silent("vnic-A")
						}
						r.mends()
						r.put("nic0", client.tcp("A", "then"))
						r.one("vnic-A")
						r.put("vnic-A", server.tcp("A", "then"))
						if d := decode(r.one("nic0")); d.dst != router || d.payload != "then" {
							t.Errorf("the client gets %+v", d)
						}
					}
				})
			})
		}
	}
}

// breaks takes a device away, which cannot be made again.
func (r *rig) breaks(name string) {
	r.t.Helper()
	r.machine.mu.Lock()
	r.machine.fail = name
	r.machine.mu.Unlock()
	_ = r.machine.device(name).Close()
	synctest.Wait()
}

// mends lets devices be made again, and waits until they are.
func (r *rig) mends() {
	r.t.Helper()
	r.machine.mu.Lock()
	r.machine.fail = ""
	r.machine.mu.Unlock()
	time.Sleep(2 * retryInterval)
	synctest.Wait()
	r.put("nic0", arp(false, routerMAC, router, nicMAC, pseudo))
	for _, d := range r.machine.devices {
		d.take()
	}
}

// refusingPath is a kernel path that can attach no iface.
type refusingPath struct{ kernelPath }

func (refusingPath) Attach(*iface.Iface) error                          { return errInjected }
func (refusingPath) Detach(*iface.Iface)                                {}
func (refusingPath) SetNeighbour(*iface.Iface, packet.Addr, config.MAC) {}

// If no program can be put on a device, the device's number is free for another one.
func TestARefusedDeviceKeepsNoNumber(t *testing.T) {
	p := newEmptyRig(t).plane
	p.mu.Lock()
	defer p.mu.Unlock()
	machine, err := p.newMachine()
	if err != nil {
		t.Fatal(err)
	}
	p.session = &session{machine: machine}
	defer func() { p.session = nil }()
	var refusing kernelPath = refusingPath{}
	p.datapaths.kernel.Store(&refusing)
	defer p.datapaths.kernel.Store(nil)

	if _, err := p.makeSegment(p.vnicSpecOf(paperConfig(), "a")); !errors.Is(err, errInjected) {
		t.Errorf("making a segment gives the error %v", err)
	}
	bridges := p.plan(paperConfig(), nil)
	if err := bridges.prepareBridge("lan"); err != nil {
		t.Fatal(err)
	}
	if err := bridges.prepareRest(); !errors.Is(err, errInjected) {
		t.Errorf("attaching a NIC gives the error %v", err)
	}
	bridges.undo()
	for n := range iface.Max - 1 {
		if _, ok := p.numbers.Take(); !ok {
			t.Fatalf("%d numbers are free, want all %d", n, iface.Max-1)
		}
	}
}
