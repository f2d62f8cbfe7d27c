package vnicbridge

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

const trackFile = "/run/caddy-vnic/lan"

var otherMachineMAC = mustMAC("02:00:00:00:00:09")

// says is a line of keepalived about the instance of the bridge.
func says(state string) string { return fmt.Sprintf("INSTANCE %q %s 100", "VI_lan", state) }

// failoverConfig is dualConfig with failover, where segments may open flows, and where flows can be
// picked up from both sides.
func failoverConfig() *config.Config {
	cfg := dualConfig()
	cfg.Key = config.Key{1}
	cfg.Bridges["lan"].Failover = &config.Failover{Engine: config.Keepalived, Instance: "VI_lan"}
	cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: config.PolicyIPHash, Segments: []string{"a"}}
	cfg.Segments["a"].Egress = config.EgressAny
	cfg.Segments["a"].ClientIP = config.Preserve
	return cfg
}

// onStandby runs a test on each data path, with a bridge that stands by.
func onStandby(t *testing.T, cfg *config.Config, test func(t *testing.T, r *rig)) {
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		r.answerGateways()
		test(t, r)
	})
}

// answerGateways lets the gateways of both families answer.
func (r *rig) answerGateways() {
	r.t.Helper()
	r.put("nic0", arp(false, routerMAC, router, nicMAC, "0.0.0.0"), advertisement(router6, routerMAC))
	for _, link := range r.plane.bridges["lan"].links {
		if _, mac := link.Router(); mac != routerMAC {
			r.t.Fatalf("a gateway has the MAC %s", mac)
		}
	}
}

func (r *rig) wantState(when string, want BridgeState) {
	r.t.Helper()
	if got := r.plane.Status().Bridges["lan"].Failover.State; got != want {
		r.t.Errorf("%s: the bridge is %s, want %s", when, got, want)
	}
}

// namesPseudo tells whether a frame has a pseudo address, or the group of one, in it.
func namesPseudo(raw []byte) bool {
	four, six := mustAddr(pseudo).V4(), mustAddr(pseudo6)
	group := link.SolicitedNode(six)
	return bytes.Contains(raw, four[:]) || bytes.Contains(raw, six[:]) || bytes.Contains(raw, group[:])
}

// wantSilence checks that the NIC sent nothing about the pseudo addresses.
func (r *rig) wantSilence(when string) {
	r.t.Helper()
	for _, raw := range r.got("nic0") {
		if namesPseudo(raw) {
			r.t.Errorf("%s: nic0 sent %+v: %x", when, decode(raw), raw)
		}
	}
}

// Row H1: a bridge follows its elector, from the first line to the last.
func TestBridgeFollowsItsElector(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		r.wantState("at the start", BridgeStandsBy)
		for _, step := range []struct {
			line string
			want BridgeState
		}{
			{says("BACKUP"), BridgeStandsBy}, {says("MASTER"), BridgeIsActive}, {says("MASTER_RX_LOWER_PRI"), BridgeIsActive},
			{`INSTANCE "another" FAULT 100`, BridgeIsActive}, {says("BACKUP_PRIORITY"), BridgeIsActive}, {"nonsense", BridgeIsActive},
			{says("FAULT"), BridgeStandsBy}, {`GROUP "VI_lan" MASTER 0`, BridgeIsActive}, {says("STOP"), BridgeStandsBy},
			{says("MASTER_RX_LOWER_PRI"), BridgeStandsBy}, {says("MASTER"), BridgeIsActive}, {says("BACKUP"), BridgeStandsBy},
			{says("MASTER"), BridgeIsActive}, {says("DELETED"), BridgeStandsBy}, {says("MASTER"), BridgeIsActive}, {"", BridgeStandsBy},
		} {
			r.elect(step.line)
			r.wantState(fmt.Sprintf("after %q", step.line), step.want)
		}
	})
}

// TestElectionEvents checks the events of a bridge that fails over.
func TestElectionEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, want := newHeardRig(t, failoverConfig())
		r.elect(says("MASTER"), says("MASTER"))
		want("elected", "bridge_active map[bridge:lan]")
		for range 3 {
			r.put("nic0", arp(false, otherMachineMAC, pseudo, nicMAC, pseudo))
		}
		want("another has the address", "bridge_conflict map[address:192.168.1.2 bridge:lan mac:02:00:00:00:00:09]")
		if n := r.plane.Status().Bridges["lan"].Conflicts; n != 1 {
			t.Errorf("%d conflicts are counted, want 1", n)
		}
		r.elect(says("BACKUP"), says("FAULT"))
		want("taken away", "bridge_standby map[bridge:lan reason:keepalived says BACKUP]")
		r.elect(says("MASTER"), "")
		want("keepalived ends", "bridge_active map[bridge:lan]", "bridge_standby map[bridge:lan reason:keepalived does not run, or has told nothing yet]")
	})
}

// strangers are packets to the pseudo address that belong to no flow, of both families.
func strangers() map[string][]byte {
	all := make(map[string][]byte)
	for family, c := range map[string]ends{"": fromRouter(farHost, 4999, 80), "6": in6(farHost6, 4999, 80)} {
		all["SYN"+family] = c.tcp("S", "")
		all["segment"+family] = c.tcp("A", "of a connection")
		all["SYN-ACK"+family] = c.tcp("SA", "")
		all["datagram"+family] = c.udp("question")
		c.dport = 0
		all["echo"+family] = c.echo("ping")
	}
	all["protocol"] = fromRouter(farHost, 0, 0).build(fromRouter(farHost, 0, 0).ip(132))
	all["fragment"] = cut(fromRouter(farHost, 4999, 80).udp(string(make([]byte, 1000))), 7, 512)[0]
	return all
}

// Row H2: while a bridge stands by, nothing makes it say anything about its addresses: not what
// comes for them, not the time, not its NIC, and no segment.
func TestStandbyIsSilent(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		r.wantSilence("at the start")
		r.wantNoAnswer()
	})
}

// Row H2: the same after it was active.
func TestStandbyIsSilentAgain(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		r.elect(says("MASTER"))
		time.Sleep(10*time.Second + 100*time.Millisecond) // between two ticks
		r.got("nic0")
		r.elect(says("BACKUP"))
		r.wantSilence("at once")
		r.wantNoAnswer()
	})
}

// wantNoAnswer lets the NIC get what it would answer if it had the addresses.
func (r *rig) wantNoAnswer() {
	r.t.Helper()
	for name, raw := range map[string][]byte{
		"request": arp(true, hostMAC, otherHost, config.MAC{}, pseudo), "the gateway's request": arp(true, routerMAC, router, config.MAC{}, pseudo),
		"probe":                      arp(true, hostMAC, "0.0.0.0", config.MAC{}, pseudo),
		"the other's announcement":   arp(true, otherMachineMAC, pseudo, config.MAC{}, pseudo),
		"solicitation":               solicitation(otherHost6, pseudo6, hostMAC),
		"DAD":                        solicitation("::", pseudo6, hostMAC),
		"the other's advertisement":  advertisement(pseudo6, otherMachineMAC),
		"query of MLD":               mldQuery("::"),
		"query of MLD for the group": mldQuery(link.SolicitedNode(mustAddr(pseudo6)).Netip().String()),
	} {
		r.put("nic0", raw)
		r.wantSilence(name)
	}
	n := uint64(0)
	for name, raw := range strangers() {
		r.put("nic0", raw)
		r.wantSilence(name)
		if n++; r.drops("nic0", "standby") != n {
			r.t.Errorf("%s: %d packets dropped because the bridge stands by, want %d", name, r.drops("nic0", "standby"), n)
			n = r.drops("nic0", "standby")
		}
	}
	r.put("vnic-A", fromA(farHost, 5000, 53).udp("a question of the segment's"), fromA6(farHost6, 5000, 53).udp("another"),
		fromA(farHost, 5001, 443).tcp("S", ""), fromA(farHost, 80, 4000).tcp("A", "of a connection that can be picked up"))
	r.wantSilence("a segment opens flows")
	if n := r.drops("vnic-A", "standby"); n != 3 {
		r.t.Errorf("%d packets of the segment dropped because the bridge stands by, want 3", n)
	}
	if n := r.plane.Status().Flows; n != 0 {
		r.t.Errorf("%d flows were opened", n)
	}
	r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC})
	r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, NotifyPeers: true})
	time.Sleep(5 * time.Minute)
	r.wantSilence("as time passes")
	r.answerGateways()
	r.got("vnic-A")
	r.silent("vnic-A", "vnic-B")
}

// Row H2: flows that a bridge has when it stands by are carried on, both ways, and end in silence.
func TestStandbyCarriesItsFlows(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		r.elect(says("MASTER"))
		r.answerGateways()
		time.Sleep(10 * time.Second) // announcements are over
		alias, alias6 := r.open(farHost, 4000), r.open6(farHost6, 4000)
		r.elect(says("BACKUP"))
		r.got("nic0")
		for range 2 {
			r.put("nic0", fromRouter(farHost, 4000, 80).tcp("A", "question"))
			r.put("vnic-A", fromA(alias, 80, 4000).tcp("A", "answer"))
			if d := decode(r.one("vnic-A")); d.payload != "question" || !d.valid {
				t.Errorf("the server gets %+v", d)
			}
			if d := decode(r.one("nic0")); d.src != pseudo || d.dst != farHost || d.payload != "answer" || !d.valid {
				t.Errorf("the client gets %+v", d)
			}
			r.put("nic0", in6(farHost6, 4000, 80).tcp("A", "question"))
			r.put("vnic-A", fromA6(alias6, 80, 4000).tcp("A", "answer"))
			if d := decode(r.one("vnic-A")); d.payload != "question" || !d.valid {
				t.Errorf("the server gets %+v", d)
			}
			if d := decode(r.one("nic0")); d.src != pseudo6 || d.dst != farHost6 || d.payload != "answer" || !d.valid {
				t.Errorf("the client gets %+v", d)
			}
			// The gateway must be asked again before the next round.
			time.Sleep(5 * time.Minute)
			r.wantSilence("the gateway is asked again")
			r.answerGateways()
			r.got("nic0")
		}
		if r.onlyFlow().Flags.Load()&flow.Acked == 0 {
			t.Error("a RST would not be sent anyway")
		}
		must(t, r.plane.Close())
		r.wantSilence("the end")
	})
}

// announced counts what a NIC has told all hosts of the pseudo addresses since the last time. It
// fails if that asks for another owner.
func (r *rig) announced() (arps, advertisements, reports int) {
	r.t.Helper()
	for _, raw := range r.got("nic0") {
		f := asFrame(raw)
		if m, err := link.ParseARP(&f); f.EtherType() == packet.EtherARP && err == nil {
			switch {
			case m.Target == mustAddr(pseudo) && m.Sender == packet.NoAddr:
				r.t.Error("the link was probed")
			case m.Target == mustAddr(pseudo) && m.Sender == m.Target && m.SenderMAC == nicMAC:
				arps++
			}
		}
		if f.EtherType() != packet.EtherIPv6 {
			continue
		}
		if m, err := link.ParseNDP(&f); err == nil && m.Target == mustAddr(pseudo6) {
			if !m.Advertisement {
				r.t.Error("Duplicate Address Detection was done")
			} else if m.MAC == nicMAC {
				advertisements++
			}
		}
		group := link.SolicitedNode(mustAddr(pseudo6))
		if f.DstMAC() == link.GroupMAC(mustAddr("ff02::16")) && bytes.Contains(raw, group[:]) {
			reports++
		}
	}
	return arps, advertisements, reports
}

// Row H3: a bridge that becomes active announces its addresses at once, and again, without asking
// anybody. It answers, and opens flows, from the first packet on.
func TestTakeOver(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		for round := range uint16(2) {
			r.elect(says("MASTER"))
			if arps, advertisements, reports := r.announced(); arps != 1 || advertisements != 1 || reports != 1 {
				t.Errorf("at once: %d gratuitous ARPs, %d advertisements, %d reports of MLD, want one of each", arps, advertisements, reports)
			}
			r.put("nic0", arp(true, hostMAC, otherHost, config.MAC{}, pseudo))
			if arps, _, _ := r.announced(); arps != 0 {
				t.Error("an answer goes to all")
			}
			r.put("nic0", solicitation(otherHost6, pseudo6, hostMAC))
			if m := r.ndpMessages(); len(m) != 1 || m[0].MAC != nicMAC || !m[0].Solicited {
				t.Errorf("a solicitation is answered by %+v", m)
			}
			r.open(farHost, 4000+round)
			r.open6(farHost6, 4000+round)
			time.Sleep(10 * time.Second)
			arps, advertisements, reports := r.announced()
			r.put("nic0", mldQuery("::"))
			time.Sleep(10 * time.Second)
			if _, _, answers := r.announced(); answers != 1 {
				t.Errorf("a query of MLD is answered by %d reports", answers)
			}
			if arps != link.TakeOverCount-1 || advertisements != link.AdvertiseCount-1 || reports != 1 {
				t.Errorf("later: %d gratuitous ARPs, %d advertisements, %d reports of MLD", arps, advertisements, reports)
			}
			synctest.Wait() // for the tick of this moment
			r.got("nic0")
			r.elect(says("BACKUP"))
			r.wantSilence("standby")
		}
	})
}

// Row H5: an active bridge that hears of another one tells of it, and defends its address once. When
// the other has given up, it announces its addresses.
func TestTwoActiveBridges(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		r.elect(says("MASTER"))
		time.Sleep(10*time.Second + 100*time.Millisecond) // between two ticks
		r.got("nic0")
		for range 5 {
			r.put("nic0", arp(true, otherMachineMAC, pseudo, config.MAC{}, pseudo), advertisement(pseudo6, otherMachineMAC))
		}
		if arps, advertisements, _ := r.announced(); arps+advertisements > 0 {
			t.Error("the address is defended at once, although the elector may be about to take it away")
		}
		time.Sleep(2 * maintainInterval)
		if arps, advertisements, _ := r.announced(); arps != 1 || advertisements != 1 {
			t.Errorf("defended by %d gratuitous ARPs and %d advertisements, want one of each", arps, advertisements)
		}
		if n := r.plane.Status().Bridges["lan"].Conflicts; n != 2 {
			t.Errorf("%d conflicts are counted, want one for each address", n)
		}
		r.elect(says("MASTER_RX_LOWER_PRI"))
		if arps, advertisements, _ := r.announced(); arps != 1 || advertisements != 1 {
			t.Errorf("the other gave up: %d gratuitous ARPs and %d advertisements, want one of each", arps, advertisements)
		}
		r.elect(says("BACKUP"))
		time.Sleep(2 * link.DefendInterval)
		r.got("nic0")
		r.put("nic0", arp(true, otherMachineMAC, pseudo, config.MAC{}, pseudo), advertisement(pseudo6, otherMachineMAC))
		r.wantSilence("the other has the addresses")
		if n := r.plane.Status().Bridges["lan"].Conflicts; n != 2 {
			t.Errorf("%d conflicts are counted: the active bridge is none", n)
		}
	})
}

// faults are what an administrator does that makes a bridge unfit, and how each is undone.
func (r *rig) faults() map[string][2]func() {
	return map[string][2]func(){
		"drained": {
			func() { must(r.t, r.plane.DrainBridge("lan", true)) },
			func() { must(r.t, r.plane.DrainBridge("lan", false)) },
		},
		"without a segment": {
			func() { must(r.t, r.plane.SetState("a", config.Draining)) },
			func() { must(r.t, r.plane.SetState("a", config.Active)) },
		},
	}
}

// Row H4: the elector is told at once that the bridge is not fit, and a second after it is again.
func TestFitness(t *testing.T) {
	cfg := failoverConfig()
	onStandby(t, cfg, func(t *testing.T, r *rig) {
		want := func(when string, fit bool) {
			t.Helper()
			synctest.Wait()
			if r.machine.fit(trackFile) != fit {
				t.Errorf("%s: the elector is told that the bridge is fit: %v; %+v", when, !fit, r.plane.Status().Bridges["lan"].Failover)
			}
		}
		becomes := func(when string) {
			t.Helper()
			time.Sleep(900 * time.Millisecond)
			want(when+", less than a second ago", false)
			time.Sleep(200 * time.Millisecond)
			want(when, true)
		}
		want("at the start", false)
		becomes("the gateways answer")
		for when, change := range r.faults() {
			change[0]()
			time.Sleep(100 * time.Millisecond)
			want(when, false)
			if why := r.plane.Status().Bridges["lan"].Failover.Unfit; why == "" {
				t.Errorf("%s: the status does not say why", when)
			}
			change[1]()
			becomes("no longer " + when)
		}
		r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC})
		want("the NIC is down", false)
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC})
		time.Sleep(time.Second)
		want("the NIC is up", true)
		must(t, r.machine.Track(trackFile, false))
		time.Sleep(1100 * time.Millisecond)
		want("somebody has written to the file", true)
		r.put("nic0", advertisement(router6, routerMAC))
		time.Sleep(5 * time.Minute)
		want("no gateway answers any more", false)
		r.answerGateways()
		time.Sleep(1100 * time.Millisecond)
		want("a gateway answers again", true)
		must(t, r.plane.Close())
		want("the end", false)
	})
}

// Row H4: a drained bridge carries on until its elector takes its addresses away.
func TestDrainedBridge(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		r.elect(says("MASTER"))
		must(t, r.plane.DrainBridge("lan", true))
		r.wantState("drained", BridgeIsDraining)
		r.got("nic0")
		r.open(farHost, 4000)
		must(t, r.plane.Apply(failoverConfig()))
		r.wantState("after a reload", BridgeIsDraining)
		r.elect(says("FAULT"))
		r.wantState("the elector has taken the addresses away", BridgeStandsBy)
		must(t, r.plane.DrainBridge("lan", false))
		r.elect(says("MASTER"))
		r.wantState("activated", BridgeIsActive)
		if err := r.plane.DrainBridge("wan", true); err == nil {
			t.Error("a bridge that does not exist was drained")
		}
		must(t, r.plane.Apply(dualConfig()))
		var wrong *config.Error
		if err := r.plane.DrainBridge("lan", true); !errors.As(err, &wrong) {
			t.Errorf("without failover: %v", err)
		}
	})
}

// Row H1: a reload that changes nothing about failover leaves a bridge as it is. One that adds it lets
// the bridge stand by, and one that removes it lets the bridge claim its addresses as at a start.
func TestReloadsOfFailover(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		r.elect(says("MASTER"))
		time.Sleep(10*time.Second + 100*time.Millisecond) // between two ticks
		r.got("nic0")
		changed := failoverConfig()
		changed.Segments["a"].Weight = 2
		must(t, r.plane.Apply(changed))
		r.wantState("after a reload", BridgeIsActive)
		if arps, advertisements, _ := r.announced(); arps+advertisements > 0 {
			t.Error("a reload announces")
		}
		alone := failoverConfig()
		alone.Bridges["lan"].Failover = nil
		must(t, r.plane.Apply(alone))
		r.open(farHost, 4000)
		if r.machine.fit(trackFile) {
			t.Error("without failover, the track file says that the bridge is fit")
		}
		if arps, advertisements, _ := r.announced(); arps+advertisements > 0 {
			t.Error("a bridge that had its addresses announces them")
		}
		must(t, r.plane.Apply(failoverConfig()))
		r.wantState("failover is added", BridgeStandsBy)
		for name, raw := range strangers() {
			r.put("nic0", raw)
			r.wantSilence(name)
		}
		// While another machine has the address, this one cannot have it without an elector.
		go func() {
			time.Sleep(300 * time.Millisecond)
			r.machine.device("nic0").in <- asFrame(arp(false, otherMachineMAC, pseudo, nicMAC, "0.0.0.0"))
		}()
		if err := r.plane.Apply(alone); err == nil {
			t.Error("failover was removed although another machine has the address")
		}
		r.wantState("failover cannot be removed", BridgeStandsBy)
		r.got("nic0")
		r.put("nic0", arp(true, hostMAC, otherHost, config.MAC{}, pseudo))
		r.wantSilence("failover cannot be removed")
		r.put("nic0", advertisement(pseudo6, otherMachineMAC)) // which may be gone when this one claims the address
		must(t, r.plane.Apply(alone))
		r.put("nic0", arp(true, hostMAC, otherHost, config.MAC{}, pseudo))
		if !slices.ContainsFunc(r.got("nic0"), namesPseudo) {
			t.Error("without failover, the bridge does not answer")
		}
		r.open(farHost, 4001)
		other := failoverConfig()
		other.Bridges["lan"].Failover.Instance = "another"
		must(t, r.plane.Apply(other))
		r.elect(says("MASTER"))
		r.wantState("another instance is MASTER", BridgeStandsBy)
		r.elect(`INSTANCE "another" MASTER 100`)
		r.wantState("its instance is MASTER", BridgeIsActive)
		must(t, r.plane.Apply(failoverConfig()))
		r.wantState("its instance was MASTER already", BridgeIsActive)
	})
}

// Row H1: the data path changes, and the bridge stands by as before.
func TestStandbyOnAnotherDataPath(t *testing.T) {
	onStandby(t, failoverConfig(), func(t *testing.T, r *rig) {
		for _, path := range []config.Datapath{config.DatapathUserspace, config.DatapathAuto} {
			cfg := failoverConfig()
			cfg.Datapath = path
			must(t, r.plane.Apply(cfg))
			r.got("nic0")
			before := r.drops("nic0", "standby")
			r.put("nic0", fromRouter(farHost, 4000, 80).tcp("S", ""), in6(farHost6, 4000, 80).tcp("S", ""))
			r.wantSilence(string(path))
			if n := r.drops("nic0", "standby") - before; n != 2 {
				t.Errorf("%s: %d packets dropped because the bridge stands by, want 2", path, n)
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mldQuery is a querier's frame about one group, or about all if it is ::.
func mldQuery(group string) []byte {
	to := "ff02::1"
	if group != "::" {
		to = group
	}
	e := ends{srcMAC: routerMAC, dstMAC: link.GroupMAC(mustAddr(to)), src: router6, dst: to}
	address := mustAddr(group)
	message := e.icmpv6(packet.MLDQuery, 0, 1<<16, append(address[:], 2, 125, 0, 0))
	message[packet.EthHeaderLen+7] = 1 // the hop limit
	return withHeaders(message, extension{headerHop, []byte{0, 5, 2, 0, 0, 1, 0}})
}
