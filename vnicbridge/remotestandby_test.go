package vnicbridge

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// remoteFailoverConfig is failoverConfig with segment b behind a device. It gets the flows, and
// segment a reaches it.
func remoteFailoverConfig() *config.Config {
	cfg := failoverConfig()
	b := cfg.Segments["b"]
	b.Interface, b.Device, b.MAC, b.ClientIP, b.Egress, b.Reach = "", device, bridgeMAC, config.Preserve, config.EgressAny, []string{"a"}
	cfg.Segments["a"].Reach, cfg.Segments["a"].Egress = []string{"b"}, config.EgressOff
	cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: config.PolicyIPHash, Segments: []string{"b"}}
	return cfg
}

// onRemoteStandby runs a test on each data path, with a bridge that stands by and a server that is
// resolved.
func onRemoteStandby(t *testing.T, test func(t *testing.T, r *rig)) {
	onStandby(t, remoteFailoverConfig(), func(t *testing.T, r *rig) {
		time.Sleep(2*time.Second + maintainInterval/2) // between two ticks
		r.answerAsked()
		test(t, r)
	})
}

// answerAsked answers the questions for the server that come from the device's own MAC, which name no
// alias.
func (r *rig) answerAsked() {
	r.t.Helper()
	var arps, solicitations int
	for _, raw := range r.got(device) {
		f := asFrame(raw)
		if m, err := link.ParseARP(&f); f.EtherType() == packet.EtherARP && err == nil && m.IsProbeFor(mustAddr(serverB)) && m.SenderMAC == deviceMAC {
			arps++
			r.put(device, arp(false, farMAC, serverB, deviceMAC, "0.0.0.0"))
		}
		if m, err := link.ParseNDP(&f); f.EtherType() == packet.EtherIPv6 && err == nil && m.Target == mustAddr(serverB6) && m.MAC == deviceMAC && m.From.Netip().IsLinkLocalUnicast() {
			solicitations++
			r.put(device, neighbourAdvertisement(farMAC, deviceMAC, serverB6, m.From.Netip().String()))
		}
		r.wantNoAlias("asking", raw)
	}
	if arps == 0 || solicitations == 0 {
		r.t.Errorf("the server is asked for by %d requests and %d solicitations from the device's own MAC", arps, solicitations)
	}
	if s := r.plane.Status().Segments["b"].Servers; len(s) != 2 || s[0].MAC != farMAC || s[1].MAC != farMAC {
		r.t.Fatalf("the servers are %+v", s)
	}
}

// wantNoAlias checks that frames that have left the device have neither the bridge's MAC nor an alias.
func (r *rig) wantNoAlias(when string, frames ...[]byte) {
	r.t.Helper()
	for _, raw := range frames {
		f := asFrame(raw)
		alias, alias6 := mustAddr(routerOnB).V4(), mustAddr(routerOnB6)
		if f.SrcMAC() == bridgeMAC || bytes.Contains(raw, alias[:]) || bytes.Contains(raw, alias6[:]) {
			r.t.Errorf("%s: the device sent %+v: %x", when, decode(raw), raw)
		}
	}
}

// announcedBehind counts the questions by which the bridge tells where its MAC is now.
func (r *rig) announcedBehind() (arps, solicitations int) {
	r.t.Helper()
	for _, raw := range r.got(device) {
		f := asFrame(raw)
		if m, err := link.ParseARP(&f); f.EtherType() == packet.EtherARP && err == nil && m.Sender == mustAddr(routerOnB) && f.SrcMAC() == bridgeMAC && f.DstMAC() == config.BroadcastMAC {
			arps++
		}
		if m, err := link.ParseNDP(&f); f.EtherType() == packet.EtherIPv6 && err == nil && m.From == mustAddr(routerOnB6) && f.SrcMAC() == bridgeMAC && f.DstMAC().IsGroup() {
			solicitations++
		}
	}
	return arps, solicitations
}

// Row H2: while all bridges of a segment stand by, nothing makes the bridge say anything about the
// segment's aliases behind the device, or from its MAC there. It still knows the server.
func TestStandbyIsSilentBehindADevice(t *testing.T) {
	onRemoteStandby(t, func(t *testing.T, r *rig) {
		for round := range 2 {
			for _, alias := range []string{routerOnB, "192.168.60.77"} {
				r.put(device, arp(true, farMAC, serverB, config.MAC{}, alias), arp(true, farMAC, serverB, bridgeMAC, alias), arp(true, strayMAC, "0.0.0.0", config.MAC{}, alias))
			}
			for _, alias := range []string{routerOnB6, "fd00:60::8000:0:0:1"} {
				r.put(device, neighbourSolicitation(farMAC, config.BroadcastMAC, serverB6, alias), neighbourSolicitation(farMAC, bridgeMAC, serverB6, alias))
			}
			r.silent(device)
			before := r.drops(device, "standby")
			for _, to := range []string{farHost, farHost6} {
				b := fromB(to, 80, 4000)
				r.put(device, b.tcp("S", ""), b.tcp("A", "of a connection of the other machine's"), b.udp("question"), ends{b.srcMAC, b.dstMAC, b.src, b.dst, 7, 0}.echo("ping"))
			}
			for f := range config.Families {
				a := fromB(r.plane.cfg.PeerAliases("b", f)["a"].String(), 5000, 80)
				r.put(device, a.tcp("S", ""), a.udp("x"))
			}
			if n := r.drops(device, "standby") - before; n != 12 {
				t.Errorf("%d packets of the server's dropped because another machine may know their flows, want 12", n)
			}
			before = r.drops("vnic-A", "standby")
			four, six := r.plane.cfg.PeerAliases("a", config.IPv4)["b"].String(), r.plane.cfg.PeerAliases("a", config.IPv6)["b"].String()
			r.put("vnic-A", fromA(four, 5000, 80).tcp("S", ""), fromA(four, 5000, 80).udp("x"), fromA6(six, 5000, 80).tcp("S", ""), fromA6(six, 5000, 80).udp("x"))
			if n := r.drops("vnic-A", "standby") - before; n != 4 {
				t.Errorf("%d packets to the server dropped because another machine has the aliases, want 4", n)
			}
			r.silent(device, "nic0", "vnic-A")
			if n := r.plane.Status().Flows; n != 0 {
				t.Errorf("%d flows were opened", n)
			}
			time.Sleep(40*time.Second + maintainInterval/2) // a RST to a server without a flow would be due
			r.answerAsked()
			r.got("nic0")
			if round == 0 {
				r.elect(says("MASTER"))
				time.Sleep(10*time.Second + 100*time.Millisecond)
				r.elect(says("BACKUP"))
				r.got(device)
				r.got("nic0")
			}
		}
	})
}

// Rows H2 and H3: a bridge that becomes active tells at once, and again, where its MAC is now, and
// answers for the aliases.
func TestTakeOverBehindADevice(t *testing.T) {
	onRemoteStandby(t, func(t *testing.T, r *rig) {
		for range 2 {
			r.elect(says("MASTER"))
			if arps, solicitations := r.announcedBehind(); arps != 1 || solicitations != 1 {
				t.Errorf("at once: %d requests and %d solicitations, want one of each", arps, solicitations)
			}
			r.serverIs(farMAC)
			for _, question := range [][]byte{arp(true, farMAC, serverB, config.MAC{}, routerOnB), neighbourSolicitation(farMAC, config.BroadcastMAC, serverB6, routerOnB6)} {
				r.put(device, question)
				if answer := asFrame(r.one(device)); answer.SrcMAC() != bridgeMAC {
					t.Errorf("the answer comes from %s", answer.SrcMAC())
				}
			}
			time.Sleep(10 * time.Second)
			if arps, solicitations := r.announcedBehind(); arps != link.TakeOverCount-1 || solicitations != link.TakeOverCount-1 {
				t.Errorf("later: %d requests and %d solicitations", arps, solicitations)
			}
			r.elect(says("MASTER_RX_LOWER_PRI")) // the other machine had them, too
			if arps, solicitations := r.announcedBehind(); arps != 1 || solicitations != 1 {
				t.Errorf("the other gave up: %d requests and %d solicitations, want one of each", arps, solicitations)
			}
			r.elect(says("BACKUP"))
			time.Sleep(10 * time.Second)
			r.wantNoAlias("standby", r.got(device)...)
		}
	})
}

// Row H2: flows that a bridge has when it stands by are carried on, both ways, from the device's own
// MAC, and end in silence.
func TestStandbyCarriesItsFlowsBehindADevice(t *testing.T) {
	onRemoteStandby(t, func(t *testing.T, r *rig) {
		r.elect(says("MASTER"))
		flows := []ends{fromRouter(farHost, 4000, 80), in6(farHost6, 4000, 80)}
		for _, c := range flows {
			r.put("nic0", c.tcp("S", ""))
			r.put(device, fromB(c.src, 80, 4000).tcp("SA", ""))
			r.put("nic0", c.tcp("A", ""))
		}
		r.put(device, fromB("192.168.60.200", 80, 4000).tcp("A", "to nobody")) // an orphan
		r.elect(says("BACKUP"))
		r.got("nic0")
		r.got(device)
		for _, c := range flows {
			r.put("nic0", c.tcp("A", "question"))
			if d := decode(r.one(device)); d.srcMAC != deviceMAC || d.dstMAC != farMAC || d.src != c.src || d.payload != "question" || !d.valid {
				t.Errorf("the server gets %+v", d)
			}
			r.put(device, fromB(c.src, 80, 4000).tcp("A", "answer"))
			if d := decode(r.one("nic0")); d.src != c.dst || d.payload != "answer" || !d.valid {
				t.Errorf("the client gets %+v", d)
			}
		}
		time.Sleep(time.Minute)
		r.wantNoAlias("as time passes", r.got(device)...)
		must(t, r.plane.Close())
		for _, raw := range r.got(device) {
			t.Errorf("at the end the device sent %+v", decode(raw))
		}
	})
}

// Row H2: while another machine has the aliases behind a device, the server is not checked, because
// its answers would go there. What the checks found counts for a minute.
func TestChecksWaitWhileAnotherMachineHasTheAliases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newEmptyRig(t)
		var asked atomic.Int64
		r.plane.dial = func(context.Context, string, string) (net.Conn, error) {
			asked.Add(1)
			return nil, errors.New("refused")
		}
		cfg := remoteFailoverConfig()
		cfg.Segments["b"].Health = &config.Health{Protocol: config.HealthTCP, Port: 80, From: "a", Interval: config.Duration(time.Second), Fails: 2}
		must(t, r.plane.Apply(cfg))
		r.serverIs(farMAC)
		wantReason := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got := r.plane.Status().Segments["b"].Health.Reason; got != want {
				t.Errorf("%s the segment is unhealthy because of %q, want %q", when, got, want)
			}
		}
		quiet := func(when string) {
			t.Helper()
			asked.Store(0)
			r.serverIs(farMAC)
			time.Sleep(10 * time.Second)
			if n := asked.Load(); n > 0 {
				t.Errorf("%s the server is checked %d times", when, n)
			}
		}
		quiet("at the start")
		r.elect(says("MASTER"))
		time.Sleep(5 * time.Second)
		wantReason("after checks", "refused")
		r.elect(says("BACKUP"))
		time.Sleep(2 * time.Second)
		quiet("while another machine has the aliases")
		wantReason("soon afterwards", "refused")
		for range 6 {
			quiet("later")
		}
		wantReason("after a minute", "")
		r.elect(says("MASTER"))
		time.Sleep(5 * time.Second)
		wantReason("after checks", "refused")
	})
}
