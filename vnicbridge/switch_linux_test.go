package vnicbridge

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
)

// switched is a rig that goes through the data paths by reloads.
type switched struct {
	*rig
	talks map[string][2]arriving // by what it is: a packet of either direction
}

// arriving is a frame at a device.
type arriving struct {
	device string
	frame  []byte
}

// Beside row F10: a change of the data path or of max_flows keeps all flows, of every kind
// and phase, with what is known of them; what was counted stays counted.
func TestSwitchingTheDataPathKeepsFlows(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("only root can load the programs of the kernel data path")
	}
	synctest.Test(t, func(t *testing.T) {
		s := switched{rig: newEmptyRig(t)}
		s.machine.kernel = true
		s.apply(config.DatapathUserspace, 1000)
		s.settle()
		s.openAll()
		for _, to := range []struct {
			path     config.Datapath
			maxFlows int
		}{
			{config.DatapathKernel, 1000}, {config.DatapathKernel, 2000}, {config.DatapathKernel, 500}, {config.DatapathUserspace, 500},
			{config.DatapathUserspace, 100}, {config.DatapathKernel, 100}, {config.DatapathAuto, 1000}, {config.DatapathUserspace, 1000},
		} {
			flows, status := s.flowList(), s.counters()
			s.apply(to.path, to.maxFlows)
			if got := s.flowList(); got != flows {
				t.Errorf("%s, at most %d: the flows were\n%s\nand are\n%s", to.path, to.maxFlows, flows, got)
			}
			if got := s.counters(); !reflect.DeepEqual(got, status) {
				t.Errorf("%s, at most %d: the counters were\n%+v\nand are\n%+v", to.path, to.maxFlows, status, got)
			}
			s.useAll(fmt.Sprint(to))
			time.Sleep(10 * time.Second)
		}
	})
}

// switchConfig has a front that reaches the other segments.
func switchConfig(path config.Datapath, maxFlows int) *config.Config {
	cfg := frontConfig()
	cfg.Bridges["lan"].LBPolicy.Segments = []string{"a", "b", "front"}
	cfg.Datapath, cfg.MaxFlows = path, maxFlows
	return cfg
}

func (s *switched) apply(path config.Datapath, maxFlows int) {
	s.t.Helper()
	if err := s.plane.Apply(switchConfig(path, maxFlows)); err != nil {
		s.t.Fatal(err)
	}
	if got := s.plane.Status().Datapath; (got == config.DatapathKernel) == (path == config.DatapathUserspace) {
		s.t.Fatalf("datapath %s: the one in use is %s", path, got)
	}
}

// openAll opens flows of all kinds, in all phases.
func (s *switched) openAll() {
	s.t.Helper()
	s.talks = make(map[string][2]arriving)
	there := func(name string, frame, back []byte) {
		s.talks[name] = [2]arriving{{"nic0", frame}, {"vnic-A", back}}
	}
	inbound := func(port uint16) (ends, ends) { return fromRouter(router, port, 80), fromA(routerOnA, 80, port) }

	c, a := inbound(4000)
	s.put("nic0", c.tcp("S", ""))
	there("half open", c.tcp("S", ""), a.tcp("SA", ""))
	s.takeAll()
	s.open(router, 4001)
	c, a = inbound(4001)
	there("established", c.tcp("A", "data"), a.tcp("A", "data"))
	s.open(router, 4002)
	c, a = inbound(4002)
	s.put("nic0", c.tcp("FA", ""))
	s.put("vnic-A", a.tcp("FA", ""))
	there("closing", c.tcp("A", ""), a.tcp("A", ""))
	s.takeAll()
	s.open(router, 4003)
	c, a = inbound(4003)
	s.put("vnic-A", a.tcp("R", ""))
	there("reset", c.tcp("R", ""), a.tcp("R", ""))
	c, a = inbound(4004)
	s.put("nic0", c.udp("x"))
	there("UDP", c.udp("data"), a.udp("data"))
	c, a = fromRouter(router, 4005, 0), fromA(routerOnA, 0, 4005)
	s.put("nic0", c.echo("x"))
	there("ICMP", c.echo("data"), a.echo("data"))

	// Two segments with the same port, of which one is mapped.
	fromB := ends{vnicBMAC, routerMAC, serverB, routerOnB, 5353, 53}
	for _, out := range []arriving{{"vnic-A", fromA(routerOnA, 5353, 53).udp("x")}, {"vnic-B", fromB.udp("x")}} {
		s.got("nic0")
		s.put(out.device, out.frame)
		mapped := decode(s.one("nic0")).sport
		s.talks["egress of "+out.device] = [2]arriving{out, {"nic0", fromRouter(router, 53, mapped).udp("x")}}
	}

	here, _ := switchConfig("", 0).PeerAlias("front", "a", config.IPv4)
	front := ends{mustMAC("50:01:02:03:04:0f"), vnicAMAC, "192.168.40.1", here.String(), 7000, 80}
	s.got("vnic-A")
	s.put("vnic-F", front.tcp("S", ""))
	d := decode(s.one("vnic-A"))
	back := ends{vnicAMAC, d.srcMAC, serverA, d.src, 80, 7000}
	s.put("vnic-A", back.tcp("SA", ""))
	s.put("vnic-F", front.tcp("A", ""))
	s.talks["reach"] = [2]arriving{{"vnic-F", front.tcp("A", "data")}, {"vnic-A", back.tcp("A", "data")}}
}

// useAll sends a packet in each direction of each flow, and sees that it arrives.
func (s *switched) useAll(when string) {
	s.t.Helper()
	n := s.plane.Status().Flows
	for _, name := range config.SortedKeys(s.talks) {
		for i, in := range s.talks[name] {
			s.takeAll()
			s.put(in.device, in.frame)
			out := s.talks[name][1-i].device
			if frames := s.got(out); len(frames) != 1 || !decode(frames[0]).valid {
				s.t.Errorf("%s: of the flow %q, %s sent %d frames, want one that is right", when, name, out, len(frames))
			}
		}
	}
	if is := s.plane.Status().Flows; is != n || n != len(s.talks) {
		s.t.Errorf("%s: %d flows, then %d, want %d", when, n, is, len(s.talks))
	}
	s.put("nic0", arp(false, routerMAC, router, nicMAC, pseudo)) // lest it is asked for
	s.takeAll()
}

func (s *switched) takeAll() {
	for _, d := range s.machine.devices {
		d.take()
	}
}

// counters are those of all devices.
func (s *switched) counters() map[string]Counters {
	status, all := s.plane.Status(), make(map[string]Counters)
	for name, b := range status.Bridges {
		all[name] = b.Counters
	}
	for name, segment := range status.Segments {
		all[name] = segment.Counters
	}
	return all
}

// What goes on beside a change of the data path finds the old one or the new one,
// never one that is gone.
func TestSwitchingBesideEverythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := switched{rig: newEmptyRig(t)}
		s.machine.kernel = true
		s.apply(config.DatapathUserspace, 1000)
		for i := range uint16(10 * flow.EachPart) {
			s.put("nic0", fromRouter(router, 1000+i, 53).udp("x"))
		}
		for _, path := range slices.Repeat([]config.Datapath{config.DatapathKernel, config.DatapathUserspace}, 3) {
			var beside sync.WaitGroup
			for _, do := range []func(){
				func() { s.plane.OpenPort("a", config.PortRange{Protocol: config.TCP, First: 80, Last: 80})() },
				func() { s.plane.tick(s.plane.now(), 0) },
				func() {
					if l, err := s.plane.Flows(flowlist.Filter{}); err != nil || l.Matched != 10*flow.EachPart {
						t.Errorf("%d flows are listed (%v), want %d", l.Matched, err, 10*flow.EachPart)
					}
				},
			} {
				beside.Go(func() {
					for range 20 {
						do()
					}
				})
			}
			s.apply(path, 1000)
			beside.Wait()
		}
	})
}
