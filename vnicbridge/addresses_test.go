package vnicbridge

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row A1.
func TestARPIsAnsweredOnceForThePseudoAddressOnly(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		for _, sender := range []string{otherHost, router, "0.0.0.0"} {
			r.put("nic0", arp(true, hostMAC, sender, config.MAC{}, pseudo))
			answer := asFrame(r.one("nic0"))
			m, err := link.ParseARP(&answer)
			if err != nil || m.Request || m.SenderMAC != nicMAC || m.Sender.Netip().String() != pseudo {
				t.Errorf("from %s: answer %+v, %v", sender, m, err)
			}
			if answer.SrcMAC() != nicMAC || answer.DstMAC() != hostMAC || m.TargetMAC != hostMAC || m.Target.Netip().String() != sender {
				t.Errorf("from %s: the answer goes to %s for %s", sender, answer.DstMAC(), m.Target.Netip())
			}
		}
		for _, target := range []string{serverA, routerOnA, serverB, otherHost, "192.168.1.3"} {
			r.put("nic0", arp(true, hostMAC, otherHost, config.MAC{}, target))
			r.silent("nic0", "vnic-A", "vnic-B")
		}
		// The gateway is heard in any case, because frames go to it.
		r.put("nic0", arp(true, routerMAC, router, config.MAC{}, "192.168.1.3"))
		r.silent("nic0", "vnic-A", "vnic-B")
		if n := r.drops("nic0", "arp"); n != 6 {
			t.Errorf("%d ARP messages counted as not for us, want 6", n)
		}
	})
}

// Row A2.
func TestAnAddressInUseFailsTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, answer := range [][]byte{
			arp(false, hostMAC, pseudo, nicMAC, "0.0.0.0"),          // it has the address
			arp(true, hostMAC, pseudo, config.MAC{}, pseudo),        // it announces the address
			arp(true, hostMAC, "0.0.0.0", config.MAC{}, pseudo),     // it probes for the address too
			arp(true, hostMAC, pseudo, config.MAC{}, "192.168.1.9"), // it speaks from the address
		} {
			r := newEmptyRig(t)
			go func() {
				time.Sleep(300 * time.Millisecond)
				r.machine.device("nic0").in <- asFrame(answer)
			}()
			err := r.plane.Apply(paperConfig())
			if err == nil || !strings.Contains(err.Error(), hostMAC.String()) || !strings.Contains(err.Error(), "lan") {
				t.Errorf("the error is %v; it must name the bridge and %s", err, hostMAC)
			}
			if s := r.plane.Status(); len(s.Segments)+len(s.Bridges) != 0 {
				t.Error("a failed start left something behind")
			}
		}
	})
}

// Row A2+: who only looks whether we are there, or repeats what others sent, is no
// rival. Such frames are answered once the address is ours.
func TestOnlyARivalFailsTheStart(t *testing.T) {
	repeated := func(raw []byte, by config.MAC) []byte {
		copy(raw[6:], by[:])
		return raw
	}
	bubble(t, func(t *testing.T) {
		r := newEmptyRig(t)
		go func() {
			for _, raw := range [][]byte{
				arp(true, hostMAC, "0.0.0.0", nicMAC, pseudo),                            // a switch's device tracking
				arp(true, hostMAC, otherHost, config.MAC{}, pseudo),                      // a host that looks for us
				repeated(arp(true, hostMAC, "0.0.0.0", config.MAC{}, pseudo), routerMAC), // another's probe, by a repeater
				arp(true, nicMAC, "0.0.0.0", config.MAC{}, pseudo),                       // our own
				repeated(arp(true, nicMAC, "0.0.0.0", config.MAC{}, pseudo), routerMAC),  // our own, by a repeater
				arp(true, hostMAC, "0.0.0.0", config.MAC{}, otherHost),                   // for another address
				arp(false, hostMAC, otherHost, nicMAC, "0.0.0.0"),                        // an answer for another address
				repeated(arp(false, nicMAC, pseudo, routerMAC, otherHost), routerMAC),    // our own answer, repeated
			} {
				time.Sleep(50 * time.Millisecond)
				r.machine.device("nic0").in <- asFrame(raw)
			}
		}()
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.put("nic0", arp(true, hostMAC, "0.0.0.0", nicMAC, pseudo))
		answer := asFrame(r.one("nic0"))
		if m, err := link.ParseARP(&answer); err != nil || m.Request || m.SenderMAC != nicMAC {
			t.Errorf("device tracking is answered by %+v, %v", m, err)
		}
	})
}

// Row A2+: with `dad off` nobody is asked whether the address is free, and no answer
// fails the start. The address is announced as ever.
func TestWithoutDAD(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].DAD = config.DADOff
	bubble(t, func(t *testing.T) {
		r := newEmptyRig(t)
		go func() {
			for range 20 {
				r.machine.mu.Lock()
				d := r.machine.devices["nic0"]
				r.machine.mu.Unlock()
				if d != nil {
					d.in <- asFrame(arp(false, routerMAC, pseudo, nicMAC, "0.0.0.0"))
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		if err := r.plane.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		announced := 0
		for _, raw := range r.got("nic0") {
			f := asFrame(raw)
			switch m, err := link.ParseARP(&f); {
			case err == nil && m.Sender == packet.NoAddr:
				t.Error("the link was probed")
			case err == nil && m.Sender == m.Target:
				announced++
			}
		}
		if announced < link.AnnounceCount {
			t.Errorf("%d announcements, want %d", announced, link.AnnounceCount)
		}
	})
}

// Row A2: probes first, then announcements.
func TestTheAddressIsProbedAndAnnounced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newEmptyRig(t)
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		var kinds []string
		for _, raw := range r.got("nic0") {
			f := asFrame(raw)
			m, err := link.ParseARP(&f)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case m.IsProbeFor(packet.AddrOf(netip.MustParseAddr(pseudo))):
				kinds = append(kinds, "probe")
			case m.Sender == m.Target:
				kinds = append(kinds, "announcement")
			case m.Target.Netip().String() == router:
				continue
			}
			if f.SrcMAC() != nicMAC || m.SenderMAC != nicMAC {
				t.Errorf("sent from %s", m.SenderMAC)
			}
		}
		if got := strings.Join(kinds, " "); got != "probe probe probe announcement announcement" {
			t.Errorf("sent %s", got)
		}
		// An address that is held already is not probed again.
		if err := r.plane.Apply(paperConfig()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, raw := range r.got("nic0") {
			f := asFrame(raw)
			if m, _ := link.ParseARP(&f); m.Sender == packet.NoAddr {
				t.Error("probed again by a reload")
			}
		}
	})
}

// Row A2: a later conflict is defended, at most once in 10 s (RFC 5227 §2.4 b).
func TestTheAddressIsDefended(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		time.Sleep(5 * time.Second) // the announcements of the start are over
		r.got("nic0")
		defences := func() int { return len(announcements(r)) }
		claimed := arp(true, hostMAC, pseudo, config.MAC{}, pseudo)
		r.put("nic0", claimed)
		if n := defences(); n != 1 {
			t.Errorf("%d defences, want 1", n)
		}
		r.put("nic0", claimed)
		if n := defences(); n != 0 {
			t.Errorf("%d defences at once, want none", n)
		}
		time.Sleep(link.DefendInterval)
		r.got("nic0")
		r.put("nic0", claimed)
		if n := defences(); n != 1 {
			t.Errorf("%d defences after 10 s, want 1", n)
		}
	})
}

// Rows A2 and A2++: a NIC that comes back, has a new MAC, or is on another link announces
// the address.
func TestTheAddressIsAnnouncedWhenTheNICChanges(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		time.Sleep(10 * time.Second)
		r.got("nic0")
		r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC, MTU: 1500})
		time.Sleep(5 * time.Second)
		if n := len(announcements(r)); n != 0 {
			t.Errorf("%d announcements while the NIC is down", n)
		}
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, MTU: 1500})
		time.Sleep(5 * time.Second)
		if n := len(announcements(r)); n != link.AnnounceCount {
			t.Errorf("%d announcements when the NIC is up again, want %d", n, link.AnnounceCount)
		}
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, MTU: 1500, NotifyPeers: true})
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, MTU: 1500})
		time.Sleep(5 * time.Second)
		if n := len(announcements(r)); n != link.AnnounceCount {
			t.Errorf("%d announcements when the peers are to be notified, want %d", n, link.AnnounceCount)
		}
		r.nicChanges(iface.LinkState{Up: true, MAC: hostMAC, MTU: 1500})
		time.Sleep(5 * time.Second)
		again := announcements(r)
		if len(again) != link.AnnounceCount {
			t.Errorf("%d announcements of another MAC, want %d", len(again), link.AnnounceCount)
		}
		for _, m := range again {
			if m.SenderMAC != hostMAC {
				t.Errorf("announced with the old MAC %s", m.SenderMAC)
			}
		}
		// From now on that is the MAC of everything that leaves (A4).
		r.put("nic0", ends{routerMAC, hostMAC, router, pseudo, 7, 0}.echo("x"))
		r.got("vnic-A")
		r.put("vnic-A", fromA(routerOnA, 0, 7).echo("x"))
		if d := decode(r.one("nic0")); d.srcMAC != hostMAC {
			t.Errorf("sent from %s", d.srcMAC)
		}
	})
}

func announcements(r *rig) (found []link.ARPMessage) {
	for _, raw := range r.got("nic0") {
		f := asFrame(raw)
		if m, err := link.ParseARP(&f); err == nil && m.Sender == m.Target {
			found = append(found, m)
		}
	}
	return found
}

// Rows A3 and A4: the MACs of the paper's Fig-12 to 15.
func TestMACsAreThoseOfThePaper(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", fromRouter(router, 0x285f, 0).echo("payload"))
		if d := decode(r.one("vnic-A")); d.srcMAC != routerMAC || d.dstMAC != vnicAMAC {
			t.Errorf("Fig-13: %s to %s", d.srcMAC, d.dstMAC)
		}
		r.put("vnic-A", fromA(routerOnA, 0, 0x285f).echo("payload"))
		if d := decode(r.one("nic0")); d.srcMAC != nicMAC || d.dstMAC != routerMAC {
			t.Errorf("Fig-14: %s to %s", d.srcMAC, d.dstMAC)
		}
		r.silent("vnic-B")
	})
}

// Row A3: every alias resolves to the gateway's MAC, as soon as that is known and
// when it changes.
func TestAliasesResolveToTheMACBehindThem(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		check := func(want config.MAC) {
			t.Helper()
			d := r.machine.devices["vnic-A"]
			d.mu.Lock()
			defer d.mu.Unlock()
			if len(d.settings.Neighbours) != 253 {
				t.Errorf("%d neighbours, want the 253 aliases", len(d.settings.Neighbours))
			}
			for alias, mac := range d.settings.Neighbours {
				if mac != want {
					t.Fatalf("%s resolves to %s, want %s", alias, mac, want)
				}
			}
		}
		check(routerMAC)
		time.Sleep(link.LockTime)
		r.put("nic0", arp(true, hostMAC, router, config.MAC{}, pseudo)) // another router took over
		time.Sleep(maintainInterval)
		check(hostMAC)
	})
}

// Row A5 for single clients: the gateway has the first alias, any other client
// the one that its address gives, always the same.
func TestAliasesAreStable(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		aliasOf := func(client string, port uint16) string {
			r.put("nic0", fromRouter(client, port, 80).tcp("S", ""))
			return decode(r.one("vnic-A")).src
		}
		if alias := aliasOf(router, 4000); alias != routerOnA {
			t.Errorf("the gateway is %s", alias)
		}
		seen := make(map[string]bool)
		for i := range 20 {
			client := fmt.Sprintf("203.0.113.%d", i+1)
			port := uint16(5000 + 2*i) // nobody else's: any alias is free for it
			alias := aliasOf(client, port)
			if alias == routerOnA || alias == serverA || !strings.HasPrefix(alias, "192.168.50.") {
				t.Errorf("%s is %s", client, alias)
			}
			if again := aliasOf(client, port+1); again != alias {
				t.Errorf("%s is %s and then %s", client, alias, again)
			}
			seen[alias] = true
		}
		if len(seen) < 15 {
			t.Errorf("20 clients got %d aliases only", len(seen))
		}
	})
}

// Row A5: the same source port from 2,000 clients through one /24 segment. No two
// living flows share a reply tuple; ports are kept while an alias is free.
func TestManyClientsWithOneSourcePort(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		tuples := make(map[string]bool)
		kept := 0
		for i := range 2000 {
			client := fmt.Sprintf("203.0.%d.%d", i/250, i%250+1)
			r.put("nic0", fromRouter(client, 123, 123).udp("ntp"))
			d := decode(r.one("vnic-A"))
			key := fmt.Sprintf("%s:%d", d.src, d.sport)
			if tuples[key] {
				t.Fatalf("two clients share %s", key)
			}
			tuples[key] = true
			if d.sport == 123 {
				kept++
			}
			r.put("vnic-A", fromA(d.src, 123, d.sport).udp("answer"))
			if back := decode(r.one("nic0")); back.dst != client || back.dport != 123 || !back.valid {
				t.Fatalf("the answer for %s went to %s:%d", client, back.dst, back.dport)
			}
		}
		if kept != 253 {
			t.Errorf("%d clients kept their port, want as many as there are aliases", kept)
		}
	})
}

// Row A7: hosts off the link are reached by the gateway's resolved MAC, whatever
// MAC a frame came from; hosts on the link by their own.
func TestNextHopsAreResolved(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		strange := ends{hostMAC, nicMAC, farHost, pseudo, 4000, 80}
		r.put("nic0", strange.tcp("S", ""))
		alias := decode(r.one("vnic-A")).src
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("SA", ""))
		if d := decode(r.one("nic0")); d.dstMAC != routerMAC {
			t.Errorf("a host off the link is reached by %s", d.dstMAC)
		}

		r.put("nic0", ends{hostMAC, nicMAC, otherHost, pseudo, 4000, 80}.tcp("S", ""))
		alias = decode(r.one("vnic-A")).src
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("SA", "waits"))
		question := asFrame(r.one("nic0"))
		if m, err := link.ParseARP(&question); err != nil || !m.Request || m.Sender.Netip().String() != pseudo || m.Target.Netip().String() != otherHost {
			t.Fatalf("asked %+v, %v", m, err)
		}
		r.put("nic0", arp(false, hostMAC, otherHost, nicMAC, pseudo))
		if d := decode(r.one("nic0")); d.dstMAC != hostMAC || d.payload != "waits" {
			t.Errorf("after the answer: %+v", d)
		}
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("A", "goes at once"))
		if d := decode(r.one("nic0")); d.dstMAC != hostMAC {
			t.Errorf("a host on the link that is known is reached by %s", d.dstMAC)
		}
	})
}

// Row A7: next hops are asked for again, and a new MAC is followed.
func TestNextHopsAreRefreshed(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		time.Sleep(10 * time.Second)
		r.got("nic0")
		time.Sleep(link.ReachableTime)
		if !r.asksFor(router) {
			t.Error("the gateway was not asked for again")
		}
		r.put("nic0", arp(false, hostMAC, router, nicMAC, pseudo))
		r.put("nic0", ends{hostMAC, nicMAC, router, pseudo, 7, 0}.echo("x"))
		r.put("vnic-A", fromA(routerOnA, 0, 7).echo("x"))
		if d := decode(r.one("nic0")); d.dstMAC != hostMAC {
			t.Errorf("the router is still reached by %s", d.dstMAC)
		}
		r.got("vnic-A")

		r.put("nic0", ends{hostMAC, nicMAC, otherHost, pseudo, 4000, 80}.tcp("S", ""))
		r.put("nic0", arp(false, hostMAC, otherHost, nicMAC, pseudo))
		alias := decode(r.one("vnic-A")).src
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("SA", "")) // or nobody asks for it
		r.put("nic0", arp(false, hostMAC, otherHost, nicMAC, pseudo))
		r.got("nic0")
		asked := false
		for passed := time.Duration(0); passed < 2*link.ReachableTime && !asked; passed += time.Second {
			r.put("vnic-A", fromA(alias, 80, 4000).tcp("A", "x"))
			time.Sleep(time.Second)
			asked = r.asksFor(otherHost)
		}
		if !asked {
			t.Error("a host on the link that is in use was not asked for again")
		}
	})
}

// asksFor tells whether what was sent by the NIC since the last time asks for the MAC
// of a host.
func (r *rig) asksFor(host string) (asked bool) {
	for _, raw := range r.got("nic0") {
		f := asFrame(raw)
		m, err := link.ParseARP(&f)
		asked = asked || err == nil && m.Request && m.Target.Netip().String() == host
	}
	return asked
}

// Row A7: frames for a host that never answers are given up and counted.
func TestUnreachableNextHopsAreGivenUp(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", ends{hostMAC, nicMAC, otherHost, pseudo, 4000, 80}.tcp("S", ""))
		alias := decode(r.one("vnic-A")).src
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("SA", ""))
		time.Sleep(10 * time.Second)
		if n := r.drops("nic0", "next_hop_unresolved"); n != 1 {
			t.Errorf("%d frames given up, want 1", n)
		}
	})
}

// Row A7: a /32 pseudo address reaches everything by its gateway.
func TestAGatewayOffTheSubnet(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].Addresses = prefixes(pseudo + "/32")
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		r.put("nic0", ends{hostMAC, nicMAC, otherHost, pseudo, 4000, 80}.tcp("S", ""))
		alias := decode(r.one("vnic-A")).src
		r.put("vnic-A", fromA(alias, 80, 4000).tcp("SA", ""))
		if d := decode(r.one("nic0")); d.dstMAC != routerMAC {
			t.Errorf("sent to %s", d.dstMAC)
		}
	})
}
