package vnicbridge

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
)

// A reload that changes the policy touches new flows only.
func TestAReloadKeepsFlows(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(router, 4000)
		next := paperConfig()
		next.Bridges["lan"].LBPolicy.Segments = []string{"b", "a"}
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.got("nic0")
		r.put("nic0", fromRouter(router, 4000, 80).tcp("A", "old"))
		r.one("vnic-A")
		r.put("nic0", fromRouter(router, 4001, 80).tcp("S", ""))
		r.one("vnic-B")
		r.silent("vnic-A")
	})
}

// A segment that is no longer configured goes, with its flows and its device.
func TestARemovedSegment(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(router, 4000)
		device := r.machine.devices["vnic-A"]
		next := paperConfig()
		delete(next.Segments, "a")
		next.Bridges["lan"].LBPolicy.Segments = []string{"b"}
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		if !device.closed() {
			t.Error("the VNIC is still there")
		}
		if s := r.plane.Status(); s.Flows != 0 || len(s.Segments) != 1 {
			t.Errorf("%d flows, %d segments", s.Flows, len(s.Segments))
		}
		if _, ok := r.plane.SegmentAddr("a"); ok {
			t.Error("the segment has an address still")
		}
		if g := r.machine.guards[len(r.machine.guards)-1]; len(g.VNICs) != 1 || g.VNICs[0].Addresses[config.IPv4].Masked().String() != "192.168.60.0/24" {
			t.Errorf("the guard is %+v", g)
		}
	})
}

// What cannot be done leaves what was in force, whole: another address for a
// segment, a new segment, and then a device that cannot be made.
func TestAFailingReloadChangesNothing(t *testing.T) {
	for _, failing := range []string{"vnic-C", "nic1"} {
		t.Run(failing, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.open(router, 4000)
				before := r.plane.Status()
				next := paperConfig()
				next.Segments["b"].Addresses = prefixes("192.168.61.1/24")
				next.Segments["c"] = &config.Segment{Interface: "vnic-C", Addresses: prefixes("192.168.70.1/24")}
				next.Bridges["two"] = &config.Bridge{NIC: "nic1", Addresses: prefixes("192.168.2.2/24"), LBPolicy: &config.Policy{Policy: config.PolicyFirst, Segments: []string{"c"}}}
				r.machine.fail = failing
				err := r.plane.Apply(next)
				var where *config.Error
				if !errors.As(err, &where) || !errors.Is(err, errInjected) {
					t.Fatalf("the error is %v", err)
				}
				after := r.plane.Status()
				if len(after.Segments) != 2 || len(after.Bridges) != 1 || after.Flows != before.Flows {
					t.Errorf("in force: %+v", after)
				}
				if a, _ := r.plane.SegmentAddr("b"); a != netip.MustParseAddr(serverB) {
					t.Errorf("segment b is at %s", a)
				}
				if d := r.machine.devices["vnic-C"]; d != nil && !d.closed() {
					t.Error("half a start is left behind")
				}
				r.got("nic0")
				r.put("nic0", fromRouter(router, 4000, 80).tcp("A", "still here"))
				r.one("vnic-A")
				first := paperConfig()
				first.Bridges["lan"].LBPolicy.Segments = []string{"b"}
				if err := r.plane.Apply(first); err != nil {
					t.Fatal(err)
				}
				r.put("nic0", fromRouter(router, 4001, 80).tcp("S", ""))
				r.one("vnic-B") // it was made again where it was
			})
		})
	}
}

// A segment with another address is another VNIC by the same name.
func TestAReaddressedSegment(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(router, 4000)
		next := paperConfig()
		next.Segments["a"].Addresses = prefixes("192.168.51.1/24")
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.got("nic0")
		r.put("nic0", fromRouter(router, 4001, 80).tcp("S", ""))
		if d := decode(r.one("vnic-A")); d.dst != "192.168.51.1" || d.src != "192.168.51.2" {
			t.Errorf("%+v", d)
		}
	})
}

// The same segment by another name and device takes the place of the old one,
// even where the old configuration may come back; and comes back if it does.
func TestARenamedSegment(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		old, next := paperConfig(), paperConfig()
		next.Segments["c"] = next.Segments["a"]
		next.Segments["c"].Interface = "vnic-C"
		delete(next.Segments, "a")
		next.Bridges["lan"].LBPolicy.Segments = []string{"c"}
		if err := r.plane.Apply(next, old); err != nil {
			t.Fatal(err)
		}
		if !r.machine.device("vnic-A").closed() {
			t.Error("two VNICs have one address")
		}
		r.got("nic0")
		r.put("nic0", fromRouter(router, 4000, 80).tcp("S", ""))
		r.one("vnic-C")
		if err := r.plane.Apply(old); err != nil {
			t.Fatal(err)
		}
		r.put("nic0", fromRouter(router, 4001, 80).tcp("S", ""))
		r.one("vnic-A")
	})
}

// What only an older configuration has keeps its flows, gets no new ones, and goes
// with that configuration.
func TestRetainedSegment(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.open(router, 4000)
		old, next := paperConfig(), paperConfig()
		delete(next.Segments, "a")
		next.Bridges["lan"].LBPolicy.Segments = []string{"b"}
		if err := r.plane.Apply(next, old); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.got("nic0")
		r.put("nic0", fromRouter(router, 4000, 80).tcp("A", "old"))
		r.one("vnic-A")
		r.put("vnic-A", fromA(routerOnA, 80, 4000).tcp("A", "old"))
		r.one("nic0")
		r.put("nic0", fromRouter(router, 4001, 80).tcp("S", ""))
		r.one("vnic-B")
		r.put("vnic-A", fromA(routerOnA, 9, 53).udp("new"))
		r.silent("nic0", "vnic-A")
		// The new one fails elsewhere: the old one comes back with its flows.
		if err := r.plane.Apply(old); err != nil {
			t.Fatal(err)
		}
		r.got("nic0")
		r.put("nic0", fromRouter(router, 4000, 80).tcp("A", "still"))
		r.one("vnic-A")
		// Once it has ended for good, so does what only it had.
		if err := r.plane.Apply(next, old); err != nil {
			t.Fatal(err)
		}
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		if !r.machine.device("vnic-A").closed() {
			t.Error("the VNIC outlives its configuration")
		}
	})
}

// A bridge moves to another NIC, whose probes the old one hears on the same link:
// that is no conflict.
func TestAnotherNIC(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		next := paperConfig()
		next.Bridges["lan"].NIC = "nic1"
		go func() {
			time.Sleep(300 * time.Millisecond)
			r.machine.device("nic1").in <- asFrame(arp(false, nicMAC, pseudo, nicMAC, "0.0.0.0"))
		}()
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		if !r.machine.device("nic0").closed() {
			t.Error("the old NIC is still open")
		}
		r.put("nic1", arp(false, routerMAC, router, nicMAC, pseudo), fromRouter(router, 4000, 80).tcp("S", ""))
		r.one("vnic-A")
	})
}

// An identical configuration changes nothing at all.
func TestAnIdenticalReload(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		before := []*memoryDevice{r.machine.devices["nic0"], r.machine.devices["vnic-A"]}
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		after := []*memoryDevice{r.machine.devices["nic0"], r.machine.devices["vnic-A"]}
		if !slices.Equal(before, after) || before[0].closed() || before[1].closed() {
			t.Error("devices were made again")
		}
	})
}

// Close leaves nothing, twice is harmless, and the plane can be used again.
func TestClose(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		for range 2 {
			if err := r.plane.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for name, d := range r.machine.devices {
			if !d.closed() {
				t.Errorf("%s is still open", name)
			}
		}
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.put("nic0", fromRouter(router, 4000, 80).tcp("S", ""))
		r.one("vnic-A")
	})
}

// Without ports of its own a segment is entered by those that listeners opened,
// for as long as the last of them is open.
func TestOpenPorts(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Ports = nil
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		entered := func(port uint16) bool {
			r.put("nic0", fromRouter(router, port, 80).tcp("S", ""))
			return len(r.got("vnic-A")) == 1
		}
		if entered(1) {
			t.Error("entered by a port that nobody opened")
		}
		old := r.plane.OpenPort("a", config.PortRange{Protocol: config.TCP, First: 80, Last: 80})
		if !entered(2) {
			t.Error("not entered by an open port")
		}
		newer := r.plane.OpenPort("a", config.PortRange{Protocol: config.TCP, First: 80, Last: 80})
		old()
		old() // twice is once
		if err := r.plane.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		if !entered(3) {
			t.Error("the newer listener's port is closed")
		}
		newer()
		if entered(4) {
			t.Error("entered by a port that is closed again")
		}
	})
}
