package vnicbridge

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

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

// ndpFrame is a frame with any message of NDP. value are the four bytes behind the checksum.
func ndpFrame(e ends, kind uint8, value uint32, body ...[]byte) []byte {
	ip := e.ipv6(config.ICMP)
	ip.HopLimit = 255
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	_ = icmp.SetNetworkLayerForChecksum(ip)
	return e.build(ip, icmp, gopacket.Payload(slices.Concat(binary.BigEndian.AppendUint32(nil, value), slices.Concat(body...))))
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

// Row A7: a host on the link is solicited from the pseudo address, and again while it is in
// use; hosts off the link are reached by the router's MAC, whatever MAC a frame came from.
func TestNextHopsAreSolicited(t *testing.T) {
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", ends{hostMAC, nicMAC, farHost6, pseudo6, 4000, 80}.tcp("S", ""))
		alias := decode(r.one("vnic-A")).src
		r.put("vnic-A", fromA6(alias, 80, 4000).tcp("SA", ""))
		if d := decode(r.one("nic0")); d.dstMAC != routerMAC {
			t.Errorf("a host off the link is reached by %s", d.dstMAC)
		}

		r.put("nic0", ends{hostMAC, nicMAC, otherHost6, pseudo6, 4000, 80}.tcp("S", ""))
		alias = decode(r.one("vnic-A")).src
		r.put("vnic-A", fromA6(alias, 80, 4000).tcp("SA", ""))
		question := asFrame(r.one("nic0"))
		want := link.NDPMessage{From: mustAddr(pseudo6), To: link.SolicitedNode(mustAddr(otherHost6)), Target: mustAddr(otherHost6), MAC: nicMAC}
		if m, err := link.ParseNDP(&question); err != nil || m != want || question.DstMAC() != link.GroupMAC(want.To) {
			t.Fatalf("asked %+v, %v", m, err)
		}
		answer := link.NDPMessage{Advertisement: true, From: mustAddr(otherHost6), To: mustAddr(pseudo6), Target: mustAddr(otherHost6), MAC: hostMAC, Solicited: true, Override: true}
		f := answer.Frame(hostMAC, nicMAC)
		r.put("nic0", f.Eth())
		if d := decode(r.one("nic0")); d.dstMAC != hostMAC {
			t.Errorf("what waited is sent to %s", d.dstMAC)
		}
		asked := false
		for passed := time.Duration(0); passed < 2*link.ReachableTime && !asked; passed += time.Second {
			r.put("vnic-A", fromA6(alias, 80, 4000).tcp("A", "x"))
			time.Sleep(time.Second)
			for _, raw := range r.got("nic0") {
				f := asFrame(raw)
				m, err := link.ParseNDP(&f)
				asked = asked || err == nil && m.Target == mustAddr(otherHost6) && f.DstMAC() == hostMAC
			}
		}
		if !asked {
			t.Error("a host on the link that is in use was not asked for again")
		}
	})
}

// Rows A10 and S6: what neighbours say changes no next hop and enters no segment.
func TestNDPChangesNoNextHop(t *testing.T) {
	all := ends{srcMAC: hostMAC, dstMAC: link.GroupMAC(mustAddr("ff02::1")), src: router6, dst: "ff02::1"}
	one := ends{srcMAC: hostMAC, dstMAC: nicMAC, src: router6, dst: pseudo6}
	stranger := all
	stranger.src = "fe80::66"
	mac := append([]byte{1, 1}, hostMAC[:]...)
	prefix := append([]byte{3, 4, 64, 0xc0, 0, 0, 0xff, 0, 0, 0, 0xff, 0, 0, 0, 0, 0}, mustIP("2001:db8:9::").AsSlice()...)
	const advertises, redirects = layers.ICMPv6TypeRouterAdvertisement, layers.ICMPv6TypeRedirect
	far, target := mustIP(farHost6).AsSlice(), mustIP(otherHost6).AsSlice()
	inIPv6(t, dualConfig(), func(t *testing.T, r *rig) {
		alias := r.open6(farHost6, 4000)
		time.Sleep(2 * link.LockTime)
		for name, raw := range map[string][]byte{
			"a Router Advertisement":            ndpFrame(all, advertises, 64<<24|1800, make([]byte, 8), mac, prefix),
			"a Router Advertisement to us":      ndpFrame(one, advertises, 64<<24|1800, make([]byte, 8), mac, prefix),
			"a stranger's Router Advertisement": ndpFrame(stranger, advertises, 64<<24|1800, make([]byte, 8), mac, prefix),
			"the end of a router":               ndpFrame(all, advertises, 64<<24, make([]byte, 8), mac),
			"a redirect":                        ndpFrame(one, redirects, 0, target, far, append([]byte{2, 1}, hostMAC[:]...)),
			"an advertisement without O":        ndpFrame(all, layers.ICMPv6TypeNeighborAdvertisement, 0, mustIP(router6).AsSlice(), append([]byte{2, 1}, hostMAC[:]...)),
			"a solicitation":                    solicitation(router6, pseudo6, hostMAC),
		} {
			r.put("nic0", raw)
			r.silent("vnic-A", "vnic-B")
			time.Sleep(time.Second)
			r.got("nic0")
			r.put("vnic-A", fromA6(alias, 80, 4000).tcp("A", "x"))
			sent := r.got("nic0")
			if i := slices.IndexFunc(sent, func(raw []byte) bool { return decode(raw).payload == "x" }); i < 0 { // others ask for next hops
				t.Errorf("after %s, nothing is sent", name)
			} else if d := decode(sent[i]); d.dst != farHost6 || d.dstMAC != routerMAC {
				t.Errorf("after %s, %s is reached by %s", name, d.dst, d.dstMAC)
			}
		}
	})
}

// Row L2: SYNs from forged sources on the link make a bounded number of solicitations and
// entries. They do not keep out a host that asks for us.
func TestForgedHostsOnTheIPv6Link(t *testing.T) {
	cfg := dualConfig()
	cfg.MaxFlows = 1 << 14
	inIPv6(t, cfg, func(t *testing.T, r *rig) {
		for i := range 2000 {
			forged := fmt.Sprintf("2001:db8:1::ff:%x", i)
			r.put("nic0", ends{hostMAC, nicMAC, forged, pseudo6, 4000, 80}.tcp("S", ""))
			d := decode(r.one("vnic-A"))
			r.put("vnic-A", fromA6(d.src, 80, 4000).tcp("SA", ""))
		}
		if n := len(r.ndpMessages()); n < link.SolicitationRate || n > link.SolicitationRate+1 {
			t.Errorf("%d solicitations at once, want %d", n, link.SolicitationRate)
		}
		table := r.plane.bridges["lan"].links[config.IPv6].Table()
		if size := sizeOf(table, link.PartResolving); size > link.IPv6NeighbourBounds[link.PartResolving] {
			t.Errorf("%d hosts are asked for at once, want %d at most", size, link.IPv6NeighbourBounds[link.PartResolving])
		}
		r.put("nic0", solicitation(otherHost6, pseudo6, hostMAC))
		r.got("nic0")
		r.put("nic0", ends{hostMAC, nicMAC, otherHost6, pseudo6, 4000, 80}.tcp("S", ""))
		d := decode(r.one("vnic-A"))
		r.put("vnic-A", fromA6(d.src, 80, 4000).tcp("SA", ""))
		if d := decode(r.one("nic0")); d.dst != otherHost6 || d.dstMAC != hostMAC {
			t.Errorf("a host that asked for us gets nothing: %s is reached by %s", d.dst, d.dstMAC)
		}
		time.Sleep(2 * time.Second)
		if n := len(r.ndpMessages()); n > 3*link.SolicitationRate {
			t.Errorf("%d solicitations in the next 2 s", n)
		}
		time.Sleep(10 * time.Second)
		if size := sizeOf(table, link.PartResolving); size != 0 {
			t.Errorf("%d hosts are asked for still, 10 s later", size)
		}
	})
}
