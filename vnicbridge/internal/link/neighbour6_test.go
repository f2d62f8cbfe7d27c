package link

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

// Row A7: frames wait for the next hop, which is solicited from the pseudo address.
func TestNextHopsAreSolicited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.SetGateway(router.Netip())
		for dst, hop := range map[packet.Addr]packet.Addr{
			host: host, addr("fe80::9"): addr("fe80::9"), addr("2001:db8:2::1"): router,
		} {
			f := packetTo(dst)
			if ready, verdict := l.Forward(&f, dst, false, l.now()); ready || verdict != packet.Keep {
				t.Errorf("to %s: ready %v, %s", dst.Netip(), ready, verdict)
			}
			frames := l.take()
			if len(frames) != 1 {
				t.Fatalf("to %s: %d frames", dst.Netip(), len(frames))
			}
			want := NDPMessage{From: pseudo, To: SolicitedNode(hop), Target: hop, MAC: nicMAC}
			if m, err := ParseNDP(&frames[0]); err != nil || m != want || frames[0].DstMAC() != GroupMAC(want.To) {
				t.Errorf("to %s: solicited %+v, %v", dst.Netip(), m, err)
			}
			l.advertises(hop, otherMAC, true, true)
			if sent := l.take(); len(sent) != 1 || sent[0].DstMAC() != otherMAC {
				t.Errorf("to %s: sent %v", dst.Netip(), sent)
			}
			if ready, _ := l.Forward(&f, dst, false, l.now()); !ready || f.DstMAC() != otherMAC {
				t.Errorf("to %s: not ready afterwards", dst.Netip())
			}
		}
	})
}

// Row A7: a next hop that is silent is asked three times, a second apart.
func TestSilentNextHopsAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		f := packetTo(host)
		l.Forward(&f, host, false, l.now())
		l.pass(10 * time.Second)
		if sent := l.messages(); len(sent) != maxAsks {
			t.Errorf("solicited %d times", len(sent))
		}
		if n := l.iface.Drops[packet.DropUnresolved].Load(); n != 1 {
			t.Errorf("%d frames given up", n)
		}
	})
}

// Row A7: a MAC is used for 30 s, then confirmed by solicitations to that MAC.
func TestNextHopsAreConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		f := packetTo(host)
		l.Forward(&f, host, false, l.now())
		l.advertises(host, hostMAC, true, true)
		l.take()
		for i := range 29 {
			l.Forward(&f, host, false, l.now())
			l.pass(time.Second)
			if i == 20 {
				l.advertises(host, hostMAC, false, true) // nobody asked, so it proves nothing
			}
		}
		if sent := l.messages(); len(sent) > 0 {
			t.Errorf("asked again after %v", sent)
		}
		unicast, multicast := 0, 0
		for range 6 {
			if ready, _ := l.Forward(&f, host, false, l.now()); !ready {
				t.Error("the MAC is no longer used")
			}
			l.pass(time.Second)
			for _, f := range l.take() {
				m, err := ParseNDP(&f)
				switch {
				case err != nil || m.Target != host || m.MAC != nicMAC:
					t.Errorf("sent %+v, %v", m, err)
				case f.DstMAC() == hostMAC && m.To == host && multicast == 0:
					unicast++
				default:
					multicast++
				}
			}
		}
		if unicast != unicastAsks || multicast == 0 {
			t.Errorf("%d solicitations to the MAC, and then %d to the group", unicast, multicast)
		}
		// An answer without the option confirms the MAC (RFC 4861 §4.4).
		if reason := l.advertises(host, config.MAC{}, true, false); reason != packet.Keep {
			t.Errorf("handled as %s", reason)
		}
		l.Forward(&f, host, false, l.now())
		l.pass(20 * time.Second)
		if sent := l.messages(); len(sent) > 0 {
			t.Errorf("asked again: %+v", sent)
		}
	})
}

// Rows A7, S6: which advertisements are believed (RFC 4861 §7.2.5).
func TestAdvertisements(t *testing.T) {
	for _, c := range []struct {
		name                string
		known               bool
		mac                 config.MAC
		solicited, override bool
		want                config.MAC
	}{
		{"another MAC, without O", true, otherMAC, true, false, hostMAC},
		{"another MAC, without S and O", true, otherMAC, false, false, hostMAC},
		{"another MAC, with O", true, otherMAC, false, true, otherMAC},
		{"another MAC, with S and O", true, otherMAC, true, true, otherMAC},
		{"a group's MAC", true, config.MAC{1}, true, true, hostMAC},
		{"our own MAC", true, nicMAC, true, true, hostMAC},
		{"asked for", false, otherMAC, false, false, otherMAC},
		{"asked for, without the option", false, config.MAC{}, true, true, config.MAC{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := acquiredLink(t)
			f := packetTo(host)
			l.Forward(&f, host, false, l.now())
			if c.known {
				l.advertises(host, hostMAC, true, true)
			}
			time.Sleep(2 * LockTime)
			l.advertises(host, c.mac, c.solicited, c.override)
			if mac := l.knows(host); mac != c.want {
				t.Errorf("%s: the host has %s, want %s", c.name, mac, c.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		if reason := l.advertises(host, hostMAC, false, true); reason != packet.DropARP {
			t.Errorf("handled as %s", reason)
		}
		if len(l.Neighbours.Table.Entries) > 0 {
			t.Error("an advertisement that nobody asked for makes an entry")
		}
	})
}

// Rows A7, S6: whoever asks for us with its MAC need not be asked. It cannot take the place
// of a host that is known, who is asked instead.
func TestWhoAsksForUsIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, true)
		if mac := l.knows(host); !mac.IsZero() {
			t.Errorf("a host that does not say its MAC has %s", mac)
		}
		l.solicits(NDPMessage{From: host, Target: pseudo, MAC: hostMAC}, hostMAC, true)
		f := packetTo(host)
		if ready, _ := l.Forward(&f, host, false, l.now()); !ready || f.DstMAC() != hostMAC {
			t.Errorf("a host that asked for us is reached by %s: %v", f.DstMAC(), ready)
		}
		l.take()
		l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, false) // as routers probe
		l.take()
		l.pass(2 * LockTime)
		if asked := l.messages(); len(asked) > 0 {
			t.Errorf("a host that does not repeat its MAC is asked: %+v", asked)
		}
		l.solicits(NDPMessage{From: host, Target: pseudo, MAC: otherMAC}, otherMAC, true)
		l.take()
		if mac := l.knows(host); mac != hostMAC {
			t.Errorf("the host has %s", mac)
		}
		l.pass(time.Second)
		if asked := l.messages(); len(asked) == 0 || asked[0].Target != host || asked[0].To != SolicitedNode(host) {
			t.Errorf("asked %+v", asked)
		}
		l.advertises(host, otherMAC, true, true)
		if mac := l.knows(host); mac != otherMAC {
			t.Errorf("after its answer the host has %s", mac)
		}
		l.solicits(NDPMessage{From: addr("2001:db8:9::1"), Target: pseudo, MAC: otherMAC}, otherMAC, true)
		if mac := l.knows(addr("2001:db8:9::1")); !mac.IsZero() {
			t.Errorf("a host beyond the link has %s", mac)
		}
	})
}

// Row L2: forged sources on the link make few entries and few solicitations, and displace no
// host that is resolved.
func TestForgedSourcesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := acquiredLink(t)
		l.solicits(NDPMessage{From: host, Target: pseudo, MAC: hostMAC}, hostMAC, true)
		l.take()
		solicited := 0
		const seconds = 10
		for i := range seconds * 1000 {
			dst := pseudo
			dst[8], dst[9], dst[10] = 0xff, byte(i>>8), byte(i)
			f := packetTo(dst)
			l.Forward(&f, dst, false, l.now())
			if size := l.Neighbours.Table.Sizes[PartResolving]; size > IPv6NeighbourBounds[PartResolving] {
				t.Fatalf("%d hosts are unresolved", size)
			}
			time.Sleep(time.Millisecond)
			if i%250 == 0 {
				l.Tick(l.now())
			}
			solicited += len(l.messages())
		}
		if most := (seconds + 1) * SolicitationRate; solicited > most || solicited < most/2 {
			t.Errorf("%d solicitations in %d s", solicited, seconds)
		}
		if mac := l.knows(host); mac != hostMAC {
			t.Error("a host that asked for us was displaced")
		}
	})
}

// Row A4: what we send names the NIC's MAC alone, in frame and option.
func TestEverythingCarriesTheNICsMAC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink("")
		if err := l.Acquire(true); err != nil {
			t.Fatal(err)
		}
		f := packetTo(host)
		l.Forward(&f, host, false, l.now())
		l.solicits(NDPMessage{From: host, Target: pseudo}, hostMAC, true)
		l.pass(5 * time.Second)
		l.Close()
		for _, f := range l.take() {
			m, err := ParseNDP(&f)
			if f.SrcMAC() != nicMAC || err == nil && !m.MAC.IsZero() && m.MAC != nicMAC {
				t.Errorf("sent from %s: %+v", f.SrcMAC(), m)
			}
		}
	})
}

// Row A7: only of IPv6, a link-local address is on every link.
func TestLinkLocalAddressesAreOnTheLink(t *testing.T) {
	for link, hops := range map[string]map[string]string{
		"10.0.0.2/24":       {"10.0.0.9": "10.0.0.9", "169.254.0.9": "10.0.0.1", "192.0.2.9": "10.0.0.1"},
		"2001:db8:1::2/128": {"fe80::9": "fe80::9", "2001:db8:1::9": "fe80::1"},
	} {
		n := NewNeighbours(netip.MustParsePrefix(link).Masked())
		n.Gateway = netip.MustParseAddr("10.0.0.1")
		if n.link.Addr().Is6() {
			n.Gateway = netip.MustParseAddr("fe80::1")
		}
		for dst, want := range hops {
			if hop, ok := n.nextHop(netip.MustParseAddr(dst)); !ok || hop.String() != want {
				t.Errorf("the next hop to %s is %s, want %s", dst, hop, want)
			}
		}
	}
}
