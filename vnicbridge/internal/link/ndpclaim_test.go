package link

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row A2: both addresses are solicited once, beside each other, and announced when a second
// has passed.
func TestTheAddressesAreProbedAndAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink("")
		if err := l.Acquire(true); err != nil {
			t.Fatal(err)
		}
		if passed := time.Since(l.start); passed != dadTime {
			t.Errorf("it took %s", passed)
		}
		own := l.LinkLocal()
		sent := l.messages()
		for i, want := range []packet.Addr{pseudo, own} {
			m := sent[i]
			if m.Advertisement || m.From != unspecified || m.To != SolicitedNode(want) || m.Target != want || !m.MAC.IsZero() || len(m.Nonce) != nonceLen {
				t.Errorf("solicited %+v", m)
			}
		}
		if len(sent) != 2 {
			t.Errorf("%d messages, want 2", len(sent))
		}
		var times []time.Duration
		for passed := time.Duration(0); passed < 10*time.Second; passed += 250 * time.Millisecond {
			l.pass(250 * time.Millisecond)
			announced := l.messages()
			if len(announced) == 0 {
				continue
			}
			times = append(times, passed)
			if len(announced) != 2 || announced[0].Target != pseudo || announced[1].Target != own {
				t.Fatalf("announced %+v", announced)
			}
			for _, m := range announced {
				if !m.Advertisement || m.From != m.Target || m.To != allNodes || m.MAC != nicMAC || m.Solicited || !m.Override {
					t.Errorf("announced %+v", m)
				}
			}
		}
		if want := []time.Duration{0, time.Second, 2 * time.Second}; !slices.Equal(times, want) {
			t.Errorf("announced after %v, want %v", times, want)
		}
	})
}

// Row A2: another host that has the pseudo address fails the start.
func TestAPseudoAddressInUseFailsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, rival := range map[string]NDPMessage{
			"it answers":               {Advertisement: true, From: pseudo, To: allNodes, Target: pseudo, MAC: hostMAC, Override: true},
			"it answers without a MAC": {Advertisement: true, From: hostLocal, To: allNodes, Target: pseudo},
			"it wants it too":          {To: SolicitedNode(pseudo), Target: pseudo, Nonce: "abcdef"},
			"it has no nonce":          {To: SolicitedNode(pseudo), Target: pseudo},
			"it speaks from it":        {From: pseudo, To: SolicitedNode(pseudo), Target: host, MAC: hostMAC},
		} {
			l := newTestLink("")
			go func() {
				time.Sleep(300 * time.Millisecond)
				l.put(rival.Frame(hostMAC, GroupMAC(rival.To)))
			}()
			err := l.Acquire(true)
			if err == nil || !strings.Contains(err.Error(), hostMAC.String()) || !strings.Contains(err.Error(), pseudo.Netip().String()) {
				t.Errorf("%s: the error is %v", name, err)
			}
			if passed := time.Since(l.start); passed != 300*time.Millisecond {
				t.Errorf("%s: it took %s", name, passed)
			}
			l.take()
			l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, true)
			if sent := l.messages(); len(sent) > 0 {
				t.Errorf("%s: sent %+v", name, sent)
			}
		}
	})
}

// Row A2: who only looks whether we are there, or returns what we sent, is no rival.
func TestOnlyARivalIsAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink("")
		go func() {
			time.Sleep(100 * time.Millisecond)
			own := l.messages()[0]
			group := GroupMAC(SolicitedNode(pseudo))
			for _, f := range []packet.Frame{
				own.Frame(nicMAC, group),   // returned by a loop
				own.Frame(otherMAC, group), // returned by a repeater with a MAC of its own
				NDPMessage{From: host, To: SolicitedNode(pseudo), Target: pseudo, MAC: hostMAC}.Frame(hostMAC, group),
				NDPMessage{To: SolicitedNode(pseudo), Target: pseudo}.Frame(hostMAC, nicMAC), // a switch's device tracking
				NDPMessage{To: SolicitedNode(host), Target: host}.Frame(hostMAC, group),
				NDPMessage{Advertisement: true, From: host, To: allNodes, Target: host, MAC: hostMAC}.Frame(hostMAC, GroupMAC(allNodes)),
				NDPMessage{Advertisement: true, From: pseudo, To: allNodes, Target: pseudo, MAC: nicMAC}.Frame(otherMAC, GroupMAC(allNodes)),
				NDPMessage{Advertisement: true, From: pseudo, To: allNodes, Target: pseudo, MAC: secondMAC}.Frame(secondMAC, GroupMAC(allNodes)),
			} {
				l.put(f)
			}
		}()
		if err := l.Acquire(true); err != nil {
			t.Error(err)
		}
	})
}

// Row A2: if another host has the derived link-local address, the next one is tried, 3 at
// most. A configured one fails the start.
func TestALinkLocalAddressInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := func(l *testLink, times int) (tried []packet.Addr) {
			for range times {
				time.Sleep(100 * time.Millisecond)
				a := l.LinkLocal()
				tried = append(tried, a)
				l.advertises(a, hostMAC, false, true)
				time.Sleep(900 * time.Millisecond)
			}
			return tried
		}
		l := newTestLink("")
		var tried []packet.Addr
		go func() { tried = taken(l, 2) }()
		if err := l.Acquire(true); err != nil {
			t.Fatal(err)
		}
		if passed := time.Since(l.start); passed != 3*dadTime {
			t.Errorf("it took %s", passed)
		}
		synctest.Wait()
		own := l.LinkLocal()
		if len(tried) != 2 || tried[0] == tried[1] || slices.Contains(tried, own) {
			t.Errorf("tried %v, and has %v", tried, own)
		}
		want := []config.MAC{GroupMAC(SolicitedNode(pseudo)), GroupMAC(SolicitedNode(own)), GroupMAC(allNodes)}
		if len(l.nic.groups) != len(want) || slices.ContainsFunc(want, func(g config.MAC) bool { return !slices.Contains(l.nic.groups, g) }) {
			t.Errorf("the NIC takes %v, want %v", l.nic.groups, want)
		}
		var solicited []packet.Addr
		for _, m := range l.messages() {
			solicited = append(solicited, m.Target)
		}
		if want := slices.Concat([]packet.Addr{pseudo}, tried, []packet.Addr{own}); !slices.Equal(solicited, want) {
			t.Errorf("solicited %v, want %v", solicited, want)
		}
		l.solicits(NDPMessage{From: host, Target: own}, hostMAC, true)
		l.solicits(NDPMessage{From: host, Target: tried[0]}, hostMAC, true)
		if sent := l.messages(); len(sent) != 1 || sent[0].Target != own {
			t.Errorf("answered %+v", sent)
		}

		l = newTestLink("")
		go taken(l, 3)
		if err := l.Acquire(true); err == nil || !strings.Contains(err.Error(), hostMAC.String()) {
			t.Errorf("the error is %v", err)
		}
		synctest.Wait()

		l = newTestLink("fe80::b")
		go taken(l, 1)
		if err := l.Acquire(true); err == nil || !strings.Contains(err.Error(), hostMAC.String()) || !strings.Contains(err.Error(), "fe80::b") {
			t.Errorf("the error is %v", err)
		}
		time.Sleep(time.Second)
	})
}

// Row A2: a later conflict is defended once in 10 s.
func TestTheAddressesAreDefended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		for _, address := range []packet.Addr{pseudo, ownLocal} {
			defences := 0
			for range 25 {
				if reason := l.advertises(address, hostMAC, false, true); reason != packet.DropARP {
					t.Errorf("handled as %s", reason)
				}
				for _, m := range l.messages() {
					if !m.Advertisement || m.Target != address || m.MAC != nicMAC || m.Solicited || !m.Override || m.To != allNodes {
						t.Errorf("sent %+v", m)
					}
					defences++
				}
				time.Sleep(time.Second)
			}
			if defences != 3 {
				t.Errorf("%d defences in 25 s, want 3", defences)
			}
		}
		l.solicits(NDPMessage{From: pseudo, Target: ownLocal, MAC: hostMAC}, hostMAC, true)
		if mac := l.knows(pseudo); !mac.IsZero() {
			t.Errorf("we are reached by %s", mac)
		}
	})
}

// Row A8: the link-local address depends on the key, the bridge and the NIC alone.
func TestLinkLocalAddresses(t *testing.T) {
	key := [2]uint64{1, 2}
	first := linkLocal(key, "lan", nicMAC, 0)
	if !netip.MustParsePrefix("fe80::/64").Contains(first.Netip()) {
		t.Errorf("the address is %s", first.Netip())
	}
	if again := linkLocal(key, "lan", nicMAC, 0); again != first {
		t.Errorf("it is %s and then %s", first.Netip(), again.Netip())
	}
	for _, other := range []packet.Addr{
		linkLocal([2]uint64{1, 3}, "lan", nicMAC, 0), linkLocal(key, "wan", nicMAC, 0),
		linkLocal(key, "lan", hostMAC, 0), linkLocal(key, "lan", nicMAC, 1),
	} {
		if other == first {
			t.Error("two links have the same address")
		}
	}
	for id, want := range map[uint64]bool{
		0: true, 1: false, 0x02005efffe000000: true, 0x02005efffeffffff: true, 0x02005effff000000: false,
		0xfdffffffffffff7f: false, 0xfdffffffffffff80: true, 0xfdffffffffffffff: true, 0xfe00000000000000: false,
	} {
		if isReserved(id) != want {
			t.Errorf("%x is reserved: %v", id, !want)
		}
	}
}

// Row A8: the address stays if somebody sets another MAC than that of the hardware.
func TestTheLinkLocalAddressIsOfThePermanentMAC(t *testing.T) {
	addressOf := func(mac, permanent config.MAC) packet.Addr {
		ifc := iface.New(1, "nic0")
		ifc.Family = config.IPv6
		ifc.NIC = &iface.NICSide{Address: pseudo, Network: netip.MustParsePrefix("2001:db8:1::/64")}
		ifc.SetMAC(mac)
		return New(ifc, Options{Bridge: "lan", MAC: permanent}).(*IPv6).LinkLocal()
	}
	if addressOf(otherMAC, nicMAC) != addressOf(nicMAC, nicMAC) {
		t.Error("the address depends on the MAC that is set")
	}
	if addressOf(nicMAC, config.MAC{}) != addressOf(nicMAC, nicMAC) || addressOf(otherMAC, config.MAC{}) == addressOf(nicMAC, nicMAC) {
		t.Error("without a permanent MAC, the address does not depend on the one that is set")
	}
}
