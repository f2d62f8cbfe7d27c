package vnicbridge

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// newHeardRig is a rig that records its events, and returns how to check and forget them.
func newHeardRig(t *testing.T, cfg *config.Config) (r *rig, want func(when string, events ...string)) {
	t.Helper()
	r = newEmptyRig(t)
	var mu sync.Mutex
	var heard []string
	r.plane.happened = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, fmt.Sprintf("%s %v", e.Name, e.Data))
	}
	if err := r.plane.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	r.settle()
	return r, func(when string, events ...string) {
		t.Helper()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(heard, events) {
			t.Errorf("%s: the events are %q, want %q", when, heard, events)
		}
		heard = nil
	}
}

// TestEventsOfTheLink checks that the plane tells once when a NIC goes down and comes back, and when another host uses the
// pseudo address.
func TestEventsOfTheLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, want := newHeardRig(t, paperConfig())
		time.Sleep(time.Minute / 2)
		r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC})
		r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC})
		want("the NIC is down", "nic_down map[bridge:lan nic:nic0]")
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC})
		want("the NIC is up", "nic_up map[bridge:lan nic:nic0]")
		other := config.MAC{2, 0, 0, 0, 0, 9}
		for range 5 {
			r.put("nic0", arp(false, other, pseudo, nicMAC, pseudo))
		}
		want("another host has the address", "rival map[address:192.168.1.2 bridge:lan mac:02:00:00:00:00:09]")
		r.got("nic0")
	})
}

// TestEventsOfTheGateway checks that a gateway that stops answering is told, and that it answers
// again. While the NIC is down
// the gateway is not blamed.
func TestEventsOfTheGateway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, want := newHeardRig(t, paperConfig())
		silent := func() bool { return r.plane.Status().Bridges["lan"].Gateways[0].Silent }
		r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC})
		time.Sleep(time.Minute)
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC})
		r.settle()
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC})
		want("the NIC was down", "nic_down map[bridge:lan nic:nic0]", "nic_up map[bridge:lan nic:nic0]")

		time.Sleep(20 * time.Second)
		if silent() {
			t.Error("a gateway that answered 20 s ago counts as silent")
		}
		time.Sleep(40 * time.Second)
		want("it has not answered for a minute", "gateway_lost map[bridge:lan gateway:192.168.1.1]")
		if !silent() {
			t.Error("the status does not show that the gateway is silent")
		}
		r.settle()
		time.Sleep(2 * inspectInterval)
		want("it answers", "gateway_back map[bridge:lan gateway:192.168.1.1]")
		r.got("nic0")
	})
}

// TestEventsOfTheTable checks that the flow table is told to be nearly full once, until it has room again.
func TestEventsOfTheTable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg := paperConfig()
		cfg.MaxFlows = 100
		r, want := newHeardRig(t, cfg)
		for i := range 90 {
			r.open(router, uint16(4000+i))
		}
		r.plane.watch()
		want("it is full by 90 %")
		for i := range 5 {
			r.open(router, uint16(5000+i))
		}
		r.plane.watch()
		r.plane.watch()
		want("it is nearly full", "table_near_full map[flows:95 limit:100]")
		cfg.MaxFlows = 1000
		if err := r.plane.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		r.plane.watch()
		want("it has room", "table_has_room map[flows:95 limit:1000]")
	})
}

// TestEventsInThePage checks that docs/operating.md names each event.
func TestEventsInThePage(t *testing.T) {
	page, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range EventNames() {
		if !strings.Contains(string(page), fmt.Sprintf("`vnic.%s`", name)) {
			t.Errorf("the page lacks vnic.%s", name)
		}
	}
}
