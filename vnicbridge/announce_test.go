package vnicbridge

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
)

// announceConfig is failoverConfig with announce instead of failover.
func announceConfig() *config.Config {
	cfg := failoverConfig()
	cfg.Bridges["lan"].Failover = nil
	cfg.Bridges["lan"].Announce = &config.Announce{Table: 176}
	return cfg
}

// wantRoutes checks by which routes the addresses are announced.
func (r *rig) wantRoutes(when string, want ...string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.machine.announced(); !slices.Equal(got, want) {
		r.t.Errorf("%s: the routes are %q, want %q; %+v", when, got, want, r.plane.Status().Bridges["lan"].Announce)
	}
}

var routes176 = []string{pseudo + " table 176", pseudo6 + " table 176"}

// Row H9: the routes are there exactly while the bridge is fit, and within 100 ms of a change.
func TestAnnouncedWhileFit(t *testing.T) {
	onStandby(t, announceConfig(), func(t *testing.T, r *rig) {
		becomes := func(when string) {
			t.Helper()
			time.Sleep(900 * time.Millisecond)
			r.wantRoutes(when + ", less than a second ago")
			time.Sleep(200 * time.Millisecond)
			r.wantRoutes(when, routes176...)
		}
		becomes("the gateways answer")
		faults := r.faults()
		faults["the NIC is down"] = [2]func(){
			func() { r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC}) },
			func() { r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC}) },
		}
		for when, change := range faults {
			change[0]()
			time.Sleep(100 * time.Millisecond)
			r.wantRoutes(when)
			if a := r.plane.Status().Bridges["lan"].Announce; a == nil || a.Fit || a.Unfit == "" {
				t.Errorf("%s: the status says %+v", when, a)
			}
			change[1]()
			time.Sleep(1100 * time.Millisecond)
			r.wantRoutes("no longer "+when, routes176...)
		}
		must(t, r.machine.Announce(176, netip.MustParseAddr(pseudo), false))
		time.Sleep(1100 * time.Millisecond)
		r.wantRoutes("somebody has removed a route", routes176...)
		must(t, r.plane.Close())
		r.wantRoutes("the end")
	})
}

// TestEventsOfAnnouncements checks that the plane tells once when a bridge is announced, and when it no
// longer is.
func TestEventsOfAnnouncements(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, want := newHeardRig(t, announceConfig())
		link := r.plane.bridges["lan"].links[config.IPv4]
		link.Table().Hear(mustAddr(router), routerMAC, true, r.plane.now())
		want("not yet for a second")
		time.Sleep(3 * time.Second)
		want("announced", "bridge_active map[bridge:lan]")
		must(t, r.plane.DrainBridge("lan", true))
		time.Sleep(3 * time.Second)
		want("drained", "bridge_standby map[bridge:lan reason:drained by hand]")
		must(t, r.plane.DrainBridge("lan", false))
		time.Sleep(3 * time.Second)
		want("activated", "bridge_active map[bridge:lan]")
	})
}

// Row H9: the link hears nothing of an address that is announced to routers, whoever asks and whatever
// the NIC does; and flows pass, also while the bridge is drained.
func TestAnnouncedIsNotOnTheLink(t *testing.T) {
	onStandby(t, announceConfig(), func(t *testing.T, r *rig) {
		quiet := func(when string) {
			t.Helper()
			if arps, advertisements, reports := r.announced(); arps+advertisements+reports > 0 {
				t.Errorf("%s: %d ARPs, %d advertisements and %d reports", when, arps, advertisements, reports)
			}
		}
		quiet("at the start")
		r.put("nic0", arp(true, hostMAC, otherHost, config.MAC{}, pseudo), solicitation(router6, pseudo6, routerMAC))
		r.wantSilence("asked")
		r.put("nic0", mldQuery("::"))
		time.Sleep(30 * time.Second)
		r.wantSilence("asked for its groups, and a while later") // it has asked for its gateways
		r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC})
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC})
		time.Sleep(5 * time.Second)
		r.wantSilence("the NIC was down")
		r.answerGateways()
		r.got("nic0")
		r.open(farHost, 4000)
		must(t, r.plane.DrainBridge("lan", true))
		if s := r.plane.Status().Bridges["lan"].Announce.State; s != BridgeIsDraining {
			t.Errorf("a drained bridge is %s", s)
		}
		r.open(farHost, 4001)
	})
}

// Row H9: reloads add, move and remove the routes. With announce the bridge gives its addresses up
// on the link, and without it claims them.
func TestReloadsOfAnnounce(t *testing.T) {
	onStandby(t, announceConfig(), func(t *testing.T, r *rig) {
		asked := func() bool {
			r.got("nic0")
			r.put("nic0", arp(true, hostMAC, otherHost, config.MAC{}, pseudo))
			return slices.ContainsFunc(r.got("nic0"), namesPseudo)
		}
		time.Sleep(1100 * time.Millisecond)
		r.wantRoutes("at the start", routes176...)
		other := announceConfig()
		other.Bridges["lan"].Announce.Table = 100
		must(t, r.plane.Apply(other))
		r.wantRoutesSoon("another table", pseudo+" table 100", pseudo6+" table 100")

		alone := announceConfig()
		alone.Bridges["lan"].Announce = nil
		go func() {
			time.Sleep(300 * time.Millisecond)
			r.machine.device("nic0").in <- asFrame(arp(false, otherMachineMAC, pseudo, nicMAC, "0.0.0.0"))
		}()
		if err := r.plane.Apply(alone); err == nil {
			t.Error("announce was removed although another host has the address")
		}
		r.wantRoutesSoon("announce cannot be removed", pseudo+" table 100", pseudo6+" table 100")
		if asked() {
			t.Error("the address that is announced is answered for, after a failed reload")
		}
		must(t, r.plane.Apply(alone))
		r.wantRoutes("no announce")
		if !asked() {
			t.Error("without announce, the bridge does not answer")
		}
		must(t, r.plane.Apply(announceConfig()))
		if asked() {
			t.Error("the address that is announced is answered for")
		}
		r.answerGateways()
		r.open(farHost, 4000)
		time.Sleep(1100 * time.Millisecond)
		r.wantRoutes("announce is back", routes176...)

		must(t, r.plane.Apply(failoverConfig()))
		r.wantRoutes("failover instead")
		r.wantState("failover instead", BridgeStandsBy)
		r.got("nic0")
		r.put("nic0", fromRouter(farHost, 4002, 80).tcp("S", ""))
		r.wantSilence("failover instead")
		must(t, r.plane.Apply(announceConfig()))
		r.answerGateways()
		r.got("nic0")
		r.open(farHost, 4003)
		if r.machine.fit(trackFile) {
			t.Error("without failover, the track file says that the bridge is fit")
		}
	})
}

// wantRoutesSoon is wantRoutes after the next judgement.
func (r *rig) wantRoutesSoon(when string, want ...string) {
	r.t.Helper()
	time.Sleep(2 * judgeInterval)
	r.wantRoutes(when, want...)
}
