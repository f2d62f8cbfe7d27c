package vnicbridge

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/link"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
)

var (
	bridgeMAC = mustMAC("52:01:02:03:04:60") // the bridge's, behind the device
	deviceMAC = mustMAC("02:00:00:00:06:77") // the device's own
	farMAC    = mustMAC("02:00:00:00:06:01") // the server's there
	strayMAC  = mustMAC("02:00:00:00:06:99") // another host's there
)

const (
	device     = "vx60"
	routerOnB6 = "fd00:60::2"
)

// remoteConfig is dualConfig with segment b behind a device, which the policy gives.
func remoteConfig(clientIP config.ClientIP) *config.Config {
	cfg := dualConfig()
	b := cfg.Segments["b"]
	b.Interface, b.Device, b.MAC, b.ClientIP = "", device, bridgeMAC, clientIP
	cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: config.PolicyFirst, Segments: []string{"b", "a"}}
	return cfg
}

// onEachRemote runs a conformance test on each data path, with a server that is resolved.
func onEachRemote(t *testing.T, clientIP config.ClientIP, test func(t *testing.T, r *rig)) {
	inIPv6(t, remoteConfig(clientIP), func(t *testing.T, r *rig) {
		r.serverIs(farMAC)
		test(t, r)
	})
}

// serverIs makes the server tell its MAC, in both families.
func (r *rig) serverIs(mac config.MAC) {
	r.t.Helper()
	r.put(device, arp(false, mac, serverB, bridgeMAC, routerOnB))
	r.put(device, neighbourAdvertisement(mac, bridgeMAC, serverB6, routerOnB6))
	r.got(device)
}

func neighbourAdvertisement(from, to config.MAC, target, asker string) []byte {
	f := link.NDPMessage{
		Advertisement: true, From: mustAddr(target), To: mustAddr(asker), Target: mustAddr(target), MAC: from, Solicited: true, Override: true,
	}.Frame(from, to)
	return f.Eth()
}

func neighbourSolicitation(from, to config.MAC, asker, target string) []byte {
	m := link.NDPMessage{From: mustAddr(asker), To: mustAddr(target), Target: mustAddr(target), MAC: from}
	if to == config.BroadcastMAC {
		m.To = link.SolicitedNode(m.Target)
		to = link.GroupMAC(m.To)
	}
	f := m.Frame(from, to)
	return f.Eth()
}

// fromB are the ends of a packet that the server behind the device sends.
func fromB(to string, sport, dport uint16) ends {
	own := serverB
	if strings.Contains(to, ":") {
		own = serverB6
	}
	return ends{farMAC, bridgeMAC, own, to, sport, dport}
}

// Rows H10 and A1: behind a device, the bridge answers for the aliases of the segment, and for
// nothing else, whoever asks.
func TestARemoteSegmentsAliasesAreAnswered(t *testing.T) {
	onEachRemote(t, config.Translate, func(t *testing.T, r *rig) {
		for _, alias := range []string{routerOnB, "192.168.60.77", "192.168.60.254"} {
			for _, asker := range []struct {
				mac     config.MAC
				address string
			}{{farMAC, serverB}, {strayMAC, "192.168.60.99"}, {strayMAC, "0.0.0.0"}} {
				r.put(device, arp(true, asker.mac, asker.address, config.MAC{}, alias))
				answer := asFrame(r.one(device))
				m, err := link.ParseARP(&answer)
				if err != nil || m.Request || m.SenderMAC != bridgeMAC || m.Sender != mustAddr(alias) || answer.DstMAC() != asker.mac || answer.SrcMAC() != bridgeMAC {
					t.Errorf("%s asks for %s: %+v (%v)", asker.address, alias, m, err)
				}
			}
		}
		for _, target := range []string{serverB, "192.168.60.0", "192.168.60.255", pseudo, serverA, otherHost} {
			r.put(device, arp(true, farMAC, serverB, config.MAC{}, target))
		}
		r.put(device, arp(true, bridgeMAC, serverB, config.MAC{}, routerOnB)) // of another machine with the same MAC
		for _, alias := range []string{routerOnB6, "fd00:60::8000:0:0:1"} {
			for _, asked := range []config.MAC{config.BroadcastMAC, bridgeMAC} {
				r.put(device, neighbourSolicitation(farMAC, asked, serverB6, alias))
				answer := asFrame(r.one(device))
				m, err := link.ParseNDP(&answer)
				if err != nil || !m.Advertisement || m.MAC != bridgeMAC || m.Target != mustAddr(alias) || !m.Solicited || answer.DstMAC() != farMAC {
					t.Errorf("asked for %s at %s: %+v (%v)", alias, asked, m, err)
				}
			}
		}
		for _, target := range []string{serverB6, pseudo6, serverA6} {
			r.put(device, neighbourSolicitation(farMAC, config.BroadcastMAC, serverB6, target))
		}
		r.silent(device, "nic0", "vnic-A")
	})
}

// Row H10: the server's address is no alias, also if aliases are on both sides of it.
func TestTheServersAddressIsItsOwn(t *testing.T) {
	cfg := remoteConfig(config.Translate)
	cfg.Segments["b"].Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.60.100/24"), netip.MustParsePrefix("fd00:60::100/64")}
	inIPv6(t, cfg, func(t *testing.T, r *rig) {
		r.put(device, arp(false, farMAC, "192.168.60.100", bridgeMAC, "192.168.60.1"), neighbourAdvertisement(farMAC, bridgeMAC, "fd00:60::100", "fd00:60::1"))
		for _, c := range []struct{ own, below, above string }{{"192.168.60.100", "192.168.60.99", "192.168.60.101"}, {"fd00:60::100", "fd00:60::99", "fd00:60::101"}} {
			ask := func(target string) []byte {
				if strings.Contains(target, ":") {
					return neighbourSolicitation(strayMAC, config.BroadcastMAC, "fd00:60::ffff", target)
				}
				return arp(true, strayMAC, "192.168.60.250", config.MAC{}, target)
			}
			r.got(device)
			r.put(device, ask(c.own))
			r.silent(device)
			r.put(device, ask(c.below), ask(c.above))
			if n := len(r.got(device)); n != 2 {
				t.Errorf("of two aliases beside %s %d are answered for", c.own, n)
			}
		}
	})
}

// Rows H10 and A7: the bridge resolves the server from the gateway's alias, and asks again while
// there is no answer. Packets wait until then, and follow the server to another MAC.
func TestARemoteServerIsResolved(t *testing.T) {
	inIPv6(t, remoteConfig(config.Translate), func(t *testing.T, r *rig) {
		time.Sleep(2*time.Second + maintainInterval/2) // between two ticks
		asked := r.got(device)
		wantARP, wantNDP := false, false
		for _, raw := range asked {
			f := asFrame(raw)
			if m, err := link.ParseARP(&f); f.EtherType() == packet.EtherARP && err == nil {
				wantARP = m.Request && m.Sender == mustAddr(routerOnB) && m.SenderMAC == bridgeMAC && m.Target == mustAddr(serverB) && f.DstMAC() == config.BroadcastMAC
			} else if m, err := link.ParseNDP(&f); err == nil {
				wantNDP = m.From == mustAddr(routerOnB6) && m.Target == mustAddr(serverB6) && m.MAC == bridgeMAC
			}
		}
		if !wantARP || !wantNDP {
			t.Errorf("of %d frames none asks for the server's address of each family", len(asked))
		}
		r.put("nic0", fromRouter(farHost, 4000, 80).tcp("S", ""), in6(farHost6, 4000, 80).tcp("S", ""))
		r.silent(device)
		r.serverWaits(farMAC)
		moved := mustMAC("02:00:00:00:06:02")
		time.Sleep(2 * link.LockTime)
		r.serverIs(moved)
		r.put("nic0", fromRouter(farHost, 4001, 80).tcp("S", ""))
		if d := decode(r.one(device)); d.dstMAC != moved {
			t.Errorf("a packet goes to %s after the server has moved to %s", d.dstMAC, moved)
		}
	})
}

// serverWaits makes the server tell its MAC, for which one packet of each family waits.
func (r *rig) serverWaits(mac config.MAC) {
	r.t.Helper()
	for _, answer := range [][]byte{arp(false, mac, serverB, bridgeMAC, routerOnB), neighbourAdvertisement(mac, bridgeMAC, serverB6, routerOnB6)} {
		r.put(device, answer)
		if d := decode(r.one(device)); d.dstMAC != mac || d.srcMAC != bridgeMAC || !d.valid || d.dst != serverB && d.dst != serverB6 {
			r.t.Errorf("what has waited leaves as %+v", d)
		}
	}
}

// Rows H10, F2 and A4: packets to and from a server behind a device, in both families and under both
// ways to see clients. No MAC of one side is seen on the other.
func TestARemoteSegmentBothWays(t *testing.T) {
	for _, clientIP := range []config.ClientIP{config.Translate, config.Preserve} {
		t.Run(string(clientIP), func(t *testing.T) {
			onEachRemote(t, clientIP, func(t *testing.T, r *rig) {
				for _, c := range []ends{fromRouter(farHost, 4000, 80), in6(farHost6, 4000, 80)} {
					for _, question := range [][]byte{c.tcp("S", ""), c.udp("question"), ends{c.srcMAC, c.dstMAC, c.src, c.dst, 77, 0}.echo("ping")} {
						r.put("nic0", question)
						q := decode(r.one(device))
						if q.srcMAC != bridgeMAC || q.dstMAC != farMAC || q.ttl != 63 || !q.valid {
							t.Errorf("the server gets %+v", q)
						}
						if (q.src == c.src) != (clientIP == config.Preserve) {
							t.Errorf("the server sees the client as %s", q.src)
						}
						b := fromB(q.src, q.dport, q.sport)
						answer := map[config.Protocol][]byte{config.TCP: b.tcp("SA", ""), config.UDP: b.udp("answer"), config.ICMP: b.echo("pong"), headerICMPv6: b.echo("pong")}[q.proto]
						r.put(device, answer)
						a := decode(r.one("nic0"))
						if a.srcMAC != nicMAC || a.dstMAC != routerMAC || a.src != c.dst || a.dst != c.src || !a.valid {
							t.Errorf("the client gets %+v", a)
						}
					}
				}
			})
		})
	}
}

// Rows H10 and S2: behind a device only the server speaks for the segment, to the bridge's MAC, from
// its own address. Frames that are not for the bridge are the host's.
func TestOnlyTheServerSpeaks(t *testing.T) {
	onEachRemote(t, config.Preserve, func(t *testing.T, r *rig) {
		for _, c := range []ends{fromRouter(farHost, 4000, 80), in6(farHost6, 4000, 80)} {
			r.put("nic0", c.udp("question"))
			r.one(device)
			b := fromB(c.src, 80, 4000)
			forged := b
			forged.src = map[string]string{serverB: "192.168.60.9", serverB6: "fd00:60::9"}[b.src]
			toClient := func(from, to config.MAC) []byte { return ends{from, to, b.src, b.dst, 80, 4000}.udp("x") }
			before := r.drops(device, "bad_source")
			r.put(device, toClient(strayMAC, bridgeMAC), forged.udp("x"))
			if n := r.drops(device, "bad_source") - before; n != 2 {
				t.Errorf("%d of 2 forged packets are counted", n)
			}
			r.put(device, toClient(farMAC, strayMAC), toClient(farMAC, config.BroadcastMAC), toClient(strayMAC, strayMAC))
			r.silent("nic0", "vnic-A", device)
			r.put(device, toClient(farMAC, bridgeMAC))
			r.one("nic0")
		}
		if from := r.plane.Status().Segments["b"].Drops; from["bad_source"] != 4 {
			t.Errorf("the drops are %v", from)
		}
	})
}

// Rows H10 and S3: what is behind a device reaches no other segment, and no host but those to which
// it answers.
func TestARemoteSegmentIsApart(t *testing.T) {
	onEachRemote(t, config.Translate, func(t *testing.T, r *rig) {
		for _, to := range []string{serverA, "192.168.60.99", otherHost, farHost, serverA6, farHost6, pseudo, pseudo6} {
			r.put(device, fromB(to, 5000, 80).udp("x"), fromB(to, 5000, 80).tcp("S", ""))
		}
		r.silent("nic0", "vnic-A")
		r.put(device, fromB(routerOnB, 5000, 53).udp("egress is gateway")) // as for any segment
		if d := decode(r.one("nic0")); d.dst != router || d.src != pseudo || d.srcMAC != nicMAC {
			t.Errorf("to the gateway goes %+v", d)
		}
	})
}

// Rows H10 and F8: a packet that is too big for the device is not sent, and its sender is told the
// device's MTU, in both families.
func TestMTUOfADevice(t *testing.T) {
	onEachRemote(t, config.Preserve, func(t *testing.T, r *rig) {
		r.deviceIs(iface.LinkState{Name: device, Up: true, MTU: 1450})
		for _, c := range []struct {
			ends
			kind  byte
			large int // the most bytes of payload that fit
		}{{fromRouter(farHost, 4000, 53), packet.ICMPUnreachable, 1450 - 28}, {in6(farHost6, 4000, 53), packet.ICMPv6PacketTooBig, 1450 - 48}} {
			r.put("nic0", c.udp(strings.Repeat("x", c.large)))
			r.one(device)
			r.put("nic0", c.udp(strings.Repeat("x", c.large+1)))
			r.silent(device)
			answer := r.one("nic0")
			d := decode(answer)
			if d.icmp != c.kind || d.dst != c.src || d.src != c.dst || !d.valid {
				t.Errorf("the answer is %+v", d)
			}
			mtu := uint32(d.value)
			if c.kind == packet.ICMPUnreachable {
				mtu = uint32(binary.BigEndian.Uint16(answer[packet.EthHeaderLen+packet.IPv4MinLen+6:]))
			}
			if mtu != 1450 {
				t.Errorf("the answer says %d", mtu)
			}
		}
		if n := r.plane.Status().Bridges["lan"].Drops["too_big"]; n != 2 {
			t.Errorf("%d counted, want 2", n)
		}
	})
}

// deviceIs tells the plane that the segment's device is in another state.
func (r *rig) deviceIs(state iface.LinkState) {
	d := r.machine.device(device)
	d.mu.Lock()
	d.state = state
	d.mu.Unlock()
	r.machine.hints <- struct{}{}
	time.Sleep(2 * maintainInterval)
	d.take()
}

// Rows H10 and L3: while a device is down, or the server behind it does not answer, the segment gets
// no new flows, and the status says why. Afterwards it gets them again.
func TestAServerThatCannotBeReached(t *testing.T) {
	onEachRemote(t, config.Translate, func(t *testing.T, r *rig) {
		gets := func(want, when string, port uint16) {
			t.Helper()
			r.put("nic0", fromRouter(farHost, port, 80).tcp("S", ""))
			got := "vnic-A"
			if frames := r.got(device); slices.ContainsFunc(frames, func(f []byte) bool { return decode(f).dport == 80 }) {
				got = device
			}
			if r.got("vnic-A"); got != want {
				t.Errorf("%s a flow goes to %s, want %s", when, got, want)
			}
		}
		reason := func() string { return r.plane.Status().Segments["b"].Health.Reason }
		gets(device, "at first", 4000)
		r.deviceIs(iface.LinkState{Name: device, MTU: 1500})
		if gets("vnic-A", "while the device is down", 4001); reason() != "device vx60 is down" {
			t.Errorf("the reason is %q", reason())
		}
		r.deviceIs(iface.LinkState{Name: device, Up: true, MTU: 1500})
		gets(device, "when it is up again", 4002)

		time.Sleep(2 * time.Minute) // without an answer
		if gets("vnic-A", "while the server is silent", 4003); reason() != "its server does not answer behind device vx60" {
			t.Errorf("the reason is %q", reason())
		}
		if s := r.plane.Status().Segments["b"].Servers; len(s) != 2 || !s[0].Silent || s[0].MAC != farMAC {
			t.Errorf("the servers are %+v", s)
		}
		r.serverIs(farMAC)
		r.deviceIs(iface.LinkState{Name: device, Up: true, MTU: 1500})
		gets(device, "when the server answers again", 4004)
	})
}
