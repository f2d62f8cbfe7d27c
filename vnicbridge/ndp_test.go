package vnicbridge

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

const otherHost6 = "2001:db8:1::77" // another host on the NIC's link

// solicitation is a frame by which a host asks all others for the MAC of an address.
func solicitation(from, target string, mac config.MAC) []byte {
	m := link.NDPMessage{From: mustAddr(from), To: link.SolicitedNode(mustAddr(target)), Target: mustAddr(target), MAC: mac}
	if from == "::" {
		m.MAC = config.MAC{}
	}
	f := m.Frame(mac, link.GroupMAC(m.To))
	return f.Eth()
}

// advertisement is a frame by which a host tells all others that it has an address.
func advertisement(target string, mac config.MAC) []byte {
	m := link.NDPMessage{Advertisement: true, From: mustAddr(target), To: mustAddr("ff02::1"), Target: mustAddr(target), MAC: mac, Override: true}
	f := m.Frame(mac, link.GroupMAC(m.To))
	return f.Eth()
}

// ndpMessages returns the messages of NDP among what the NIC has sent since the last time.
func (r *rig) ndpMessages() (all []link.NDPMessage) {
	for _, raw := range r.got("nic0") {
		f := asFrame(raw)
		if f.EtherType() != packet.EtherIPv6 {
			continue
		}
		if m, err := link.ParseNDP(&f); err == nil {
			all = append(all, m)
		}
	}
	return all
}

// Row A1: the pseudo address and the bridge's link-local address are answered for, by NDP,
// and no address of a segment.
func TestSolicitationsAreAnsweredForTheBridgesAddressesOnly(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		time.Sleep(5 * time.Second)
		r.got("nic0")
		own := r.plane.bridges["lan"].links[config.IPv6].(*link.IPv6).LinkLocal().Netip().String()
		for _, target := range []string{pseudo6, own} {
			for _, from := range []string{otherHost6, "fe80::77", "::"} {
				r.put("nic0", solicitation(from, target, hostMAC))
				sent := r.ndpMessages()
				if len(sent) != 1 || !sent[0].Advertisement || sent[0].Target != mustAddr(target) || sent[0].MAC != nicMAC || sent[0].Solicited == (from == "::") {
					t.Errorf("%s asks for %s: sent %+v", from, target, sent)
				}
			}
		}
		for _, target := range []string{serverA6, routerOnA6, otherHost6, "2001:db8:1::3"} {
			r.put("nic0", solicitation(otherHost6, target, hostMAC))
			r.silent("nic0", "vnic-A", "vnic-B")
		}
	})
}

// Row A2: another host that has the pseudo address of IPv6 fails the start.
func TestAnIPv6AddressInUseFailsTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, answer := range [][]byte{
			advertisement(pseudo6, hostMAC),
			solicitation("::", pseudo6, hostMAC),
		} {
			r := newEmptyRig(t)
			go func() {
				time.Sleep(300 * time.Millisecond)
				r.machine.device("nic0").in <- asFrame(answer)
			}()
			err := r.plane.Apply(dualConfig())
			if err == nil || !strings.Contains(err.Error(), hostMAC.String()) || !strings.Contains(err.Error(), "lan") {
				t.Errorf("the error is %v; it must name the bridge and %s", err, hostMAC)
			}
			if s := r.plane.Status(); len(s.Segments)+len(s.Bridges) != 0 {
				t.Error("a failed start left something behind")
			}
		}
	})
}

// Row A2: the addresses are probed once, and announced whenever the NIC changes.
func TestIPv6AddressesAreAnnounced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newEmptyRig(t)
		if err := r.plane.Apply(dualConfig()); err != nil {
			t.Fatal(err)
		}
		own := r.plane.bridges["lan"].links[config.IPv6].(*link.IPv6).LinkLocal()
		count := func() (probes, announcements int) {
			for _, m := range r.ndpMessages() {
				switch {
				case m.Target != mustAddr(pseudo6) && m.Target != own:
				case m.Advertisement:
					announcements++
				default:
					probes++
				}
			}
			return probes, announcements
		}
		check := func(wantProbes, wantAnnouncements int) {
			t.Helper()
			time.Sleep(10 * time.Second)
			if probes, announcements := count(); probes != wantProbes || announcements != wantAnnouncements {
				t.Errorf("%d probes and %d announcements, want %d and %d", probes, announcements, wantProbes, wantAnnouncements)
			}
		}
		check(2, 2*link.AdvertiseCount)
		r.nicChanges(iface.LinkState{Up: false, MAC: nicMAC, MTU: 1500})
		check(0, 0)
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, MTU: 1500})
		check(0, 2*link.AdvertiseCount)
		if err := r.plane.Apply(dualConfig()); err != nil {
			t.Fatal(err)
		}
		check(0, 0)
	})
}

// Rows A9 and L3: the NIC takes the groups' frames, and takes them again when it was opened
// again. It leaves the groups when the plane closes.
func TestTheNICTakesItsGroups(t *testing.T) {
	onEachDataPath(t, dualConfig(), func(t *testing.T, r *rig) {
		own := r.plane.bridges["lan"].links[config.IPv6].(*link.IPv6).LinkLocal()
		check := func() {
			t.Helper()
			d := r.machine.device("nic0")
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, group := range []packet.Addr{link.SolicitedNode(mustAddr(pseudo6)), link.SolicitedNode(own), mustAddr("ff02::1")} {
				if !slices.Contains(d.groups, link.GroupMAC(group)) {
					t.Errorf("the NIC does not take %s", group.Netip())
				}
			}
			if len(d.groups) != 3 {
				t.Errorf("the NIC takes %v", d.groups)
			}
		}
		check()
		r.breaks("nic0")
		r.mends()
		check()
		time.Sleep(5 * time.Second)
		r.got("nic0")
		if err := r.plane.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		left := false
		for _, raw := range r.got("nic0") {
			f := asFrame(raw)
			left = left || f.DstMAC() == link.GroupMAC(mustAddr("ff02::16"))
		}
		if !left {
			t.Error("nobody is told that the NIC leaves its groups")
		}
	})
}

// Row A7: a segment is told that a host on the link does not answer.
func TestSegmentsAreToldOfUnreachableHosts(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", ends{hostMAC, nicMAC, otherHost6, pseudo6, 4000, 80}.tcp("S", ""))
		alias := decode(r.one("vnic-A")).src
		r.put("vnic-A", fromA6(alias, 80, 4000).tcp("SA", ""), fromA6(alias, 80, 4000).tcp("SA", ""))
		r.silent("vnic-A")
		time.Sleep(10 * time.Second)
		raw := r.one("vnic-A")
		d := decode(raw)
		if d.icmp != packet.ICMPv6Unreachable || d.code != packet.ICMPv6AddressUnreachable || d.src != alias || d.dst != serverA6 || !d.valid {
			t.Errorf("told %+v", d)
		}
		if q := quoteIn(d); q.src != serverA6 || q.dst != alias || q.sport != 80 || q.dport != 4000 {
			t.Errorf("about %+v", q)
		}
		if n := r.drops("nic0", "next_hop_unresolved"); n != 2 {
			t.Errorf("%d frames given up, want 2", n)
		}
	})
}
