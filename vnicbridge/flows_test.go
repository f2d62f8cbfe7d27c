package vnicbridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// open opens a TCP connection from a client through segment a, handshake and all,
// and returns the alias that the client has there.
func (r *rig) open(client string, port uint16) (alias string) {
	r.t.Helper()
	c := fromRouter(client, port, 80)
	r.put("nic0", c.tcp("S", ""))
	alias = decode(r.one("vnic-A")).src
	r.put("vnic-A", fromA(alias, 80, port).tcp("SA", ""))
	r.put("nic0", c.tcp("A", ""))
	r.got("vnic-A")
	r.got("nic0")
	return alias
}

// Row F1: a SYN, a datagram and an echo request begin a flow; nothing else does.
func TestWhatBeginsAFlow(t *testing.T) {
	c := fromRouter(router, 4000, 80)
	reply := ends{routerMAC, nicMAC, router, pseudo, 0, 4000}
	for _, tc := range []struct {
		name   string
		frame  []byte
		begins bool
	}{
		{"SYN", c.tcp("S", ""), true},
		{"datagram", c.udp("x"), true},
		{"echo request", fromRouter(router, 4000, 0).echo("x"), true},
		{"SYN and ACK", c.tcp("SA", ""), false},
		{"ACK", c.tcp("A", "x"), false},
		{"RST", c.tcp("R", ""), false},
		{"FIN", c.tcp("FA", ""), false},
		{"SYN and FIN", c.tcp("SF", ""), false},
		{"no flags", c.tcp("", ""), false},
		{"echo reply", reply.echo("x"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.put("nic0", tc.frame)
				if got := len(r.got("vnic-A")) == 1; got != tc.begins {
					t.Errorf("began a flow: %v, want %v", got, tc.begins)
				}
				if n := r.plane.Status().Flows; (n == 1) != tc.begins {
					t.Errorf("%d flows", n)
				}
			})
		})
	}
}

// Row F1: the segment is chosen once; both directions keep it.
func TestAFlowKeepsItsSegment(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		first := fromRouter(router, 4000, 80)
		r.put("nic0", first.tcp("S", ""))
		r.one("vnic-A")
		r.put("nic0", fromRouter(router, 4001, 80).tcp("S", ""))
		r.one("vnic-B") // the other's turn
		for range 5 {
			r.put("nic0", first.tcp("A", "x"))
			r.one("vnic-A")
			r.put("vnic-A", fromA(routerOnA, 80, 4000).tcp("A", "y"))
			r.one("nic0")
		}
		r.silent("vnic-B")
	})
}

// Row F2: MACs, addresses and their checksums change; nothing else does.
func TestWhatIsRewritten(t *testing.T) {
	for _, payload := range []string{"", "odd", "even", strings.Repeat("long", 300)} {
		for name, frame := range map[string][]byte{
			"tcp":  fromRouter(router, 4000, 80).tcp("S", payload),
			"udp":  fromRouter(router, 4000, 80).udp(payload),
			"icmp": fromRouter(router, 4000, 0).echo(payload),
			"options": func() []byte {
				e := fromRouter(router, 4000, 80)
				ip := e.ip(layers.IPProtocolUDP)
				ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
				udp := &layers.UDP{SrcPort: 4000, DstPort: 80}
				_ = udp.SetNetworkLayerForChecksum(ip)
				return e.build(ip, udp)
			}(),
		} {
			t.Run(fmt.Sprint(name, len(payload)), func(t *testing.T) {
				onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
					r.put("nic0", frame)
					got := r.one("vnic-A")
					d := decode(got)
					if d.src != routerOnA || d.dst != serverA || !d.valid {
						t.Errorf("%+v", d)
					}
					if diff := differing(frame, got); !within(diff, rewritten(frame)) {
						t.Errorf("changed bytes %v", diff)
					}
				})
			})
		}
	}
}

// rewritten are the bytes of a frame that a bridge may change: the destination
// MAC, the addresses, and the checksums that cover them.
func rewritten(frame []byte) (offsets []int) {
	l4 := packet.EthHeaderLen + int(frame[packet.EthHeaderLen]&15)*4
	add := func(from, n int) {
		for i := range n {
			offsets = append(offsets, from+i)
		}
	}
	add(0, 6)
	add(packet.EthHeaderLen+10, 10)
	switch config.Protocol(frame[packet.EthHeaderLen+9]) {
	case config.TCP:
		add(l4+16, 2)
	case config.UDP:
		add(l4+6, 2)
	}
	return offsets
}

func differing(a, b []byte) (offsets []int) {
	if len(a) != len(b) {
		return []int{-1}
	}
	for i := range a {
		if a[i] != b[i] {
			offsets = append(offsets, i)
		}
	}
	return offsets
}

func within(offsets, allowed []int) bool {
	for _, o := range offsets {
		ok := false
		for _, a := range allowed {
			ok = ok || a == o
		}
		if !ok {
			return false
		}
	}
	return true
}

// Row F3: right stays right, wrong stays wrong, a UDP zero stays zero, and a
// computed zero goes out as all ones.
func TestChecksums(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		through := func(frame []byte) decoded {
			t.Helper()
			r.put("nic0", frame)
			return decode(r.one("vnic-A"))
		}
		sum := func(raw []byte, at int) uint16 { return binary.BigEndian.Uint16(raw[at:]) }
		const udpSum = packet.EthHeaderLen + packet.IPv4MinLen + 6

		if d := through(fromRouter(router, 4000, 80).tcp("S", "x")); !d.valid {
			t.Error("a right checksum became wrong")
		}
		wrong := fromRouter(router, 4001, 80).tcp("S", "x")
		wrong[packet.EthHeaderLen+packet.IPv4MinLen+16] ^= 0x10
		if d := through(wrong); d.valid {
			t.Error("a wrong TCP checksum became right")
		}
		wrong = fromRouter(router, 4002, 80).tcp("S", "x")
		wrong[packet.EthHeaderLen+10] ^= 0x10
		if d := through(wrong); d.valid {
			t.Error("a wrong IP checksum became right")
		}
		none := fromRouter(router, 4003, 80).udp("x")
		none[udpSum], none[udpSum+1] = 0, 0
		r.put("nic0", none)
		if got := r.one("vnic-A"); sum(got, udpSum) != 0 {
			t.Errorf("no UDP checksum became %#x", sum(got, udpSum))
		}

		// Find the payload for which the checksum on the segment is zero.
		for i := range 1 << 16 {
			payload := string(binary.BigEndian.AppendUint16(nil, uint16(i)))
			inside := ends{routerMAC, vnicAMAC, routerOnA, serverA, 4004, 80}.udp(payload)
			if sum(inside, udpSum) != 0 && sum(inside, udpSum) != 0xffff {
				continue
			}
			r.put("nic0", fromRouter(router, 4004, 80).udp(payload))
			if got := r.one("vnic-A"); sum(got, udpSum) != 0xffff {
				t.Errorf("a computed zero is sent as %#x", sum(got, udpSum))
			}
			return
		}
		t.Error("no payload has a zero checksum")
	})
}

// Row F3: increments against sums computed afresh, over random packets, ports
// changed as well.
func TestRewriteAgreesWithComputedChecksums(t *testing.T) {
	t.Run("userspace", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		address := func() string {
			return fmt.Sprintf("%d.%d.%d.%d", 1+random.IntN(222), random.IntN(256), random.IntN(256), random.IntN(256))
		}
		for range 20000 {
			from := ends{routerMAC, nicMAC, address(), address(), uint16(random.Uint32()), uint16(random.Uint32())}
			to := ends{routerMAC, nicMAC, address(), address(), uint16(random.Uint32()), uint16(random.Uint32())}
			payload := strings.Repeat("p", random.IntN(9))
			build := func(e ends) []byte {
				switch random.IntN(2) {
				case 0:
					return e.tcp("A", payload)
				default:
					return e.udp(payload)
				}
			}
			raw := build(from)
			f := asFrame(raw)
			p, verdict := packet.ParseIPv4(&f)
			if verdict != packet.Keep {
				t.Fatal(verdict)
			}
			p.Rewrite(tupleOf(to, p.Proto), false)
			d := decode(f.Eth())
			if !d.valid || d.src != to.src || d.dst != to.dst || d.sport != to.sport || d.dport != to.dport {
				t.Fatalf("%+v to %+v became %+v", from, to, d)
			}
		}
	})
}

// Row F3: a checksum that a device has yet to finish holds the sum over the
// pseudo header, and must do so after the rewriting.
func TestUnfinishedChecksums(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		raw := fromRouter(router, 4000, 80).tcp("S", "payload")
		const at = packet.EthHeaderLen + packet.IPv4MinLen + 16
		binary.BigEndian.PutUint16(raw[at:], pseudoHeaderSum(raw))
		f := asFrame(raw)
		f.Data[0] = packet.VNetNeedsCsum
		r.machine.devices["nic0"].in <- f
		synctest.Wait()
		got := r.one("vnic-A")
		if want := pseudoHeaderSum(got); binary.BigEndian.Uint16(got[at:]) != want {
			t.Errorf("the sum is %#x, want %#x", got[at:at+2], want)
		}
	})
}

func pseudoHeaderSum(raw []byte) uint16 {
	ip := raw[packet.EthHeaderLen:]
	length := binary.BigEndian.Uint16(ip[2:]) - uint16(ip[0]&15)*4
	header := append(bytes.Clone(ip[12:20]), 0, ip[9])
	return plainSum(binary.BigEndian.AppendUint16(header, length))
}

// Row F4: TCP idle times, RFC 5382 and RFC 7857.
func TestTCPIdleTimes(t *testing.T) {
	established := flow.IdleTimes[flow.ClassEstablished]
	transitory := flow.IdleTimes[flow.ClassClosing]
	if established < 2*time.Hour+4*time.Minute || transitory < 4*time.Minute {
		t.Fatal("idle times below those of RFC 5382")
	}
	type step struct {
		from  string // "client" or "server"
		flags string
	}
	for _, tc := range []struct {
		name  string
		steps []step // after a handshake, unless the first is a SYN
		lives time.Duration
	}{
		{"half open", []step{{"client", "S"}}, transitory},
		{"answered only", []step{{"client", "S"}, {"server", "SA"}}, transitory},
		{"established", nil, established},
		{"one FIN", []step{{"client", "FA"}}, established},
		{"both FINs", []step{{"client", "FA"}, {"server", "FA"}, {"client", "A"}}, transitory},
		{"RST", []step{{"server", "RA"}}, transitory},
		{"RST and traffic after it", []step{{"client", "R"}, {"server", "A"}}, established},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				client, server := fromRouter(router, 4000, 80), fromA(routerOnA, 80, 4000)
				if len(tc.steps) == 0 || tc.steps[0].flags != "S" {
					r.open(router, 4000)
				}
				for _, s := range tc.steps {
					if s.from == "client" {
						r.put("nic0", client.tcp(s.flags, ""))
					} else {
						r.put("vnic-A", server.tcp(s.flags, ""))
					}
				}
				time.Sleep(tc.lives - time.Second)
				if n := r.plane.Status().Flows; n != 1 {
					t.Fatalf("gone before its idle time")
				}
				time.Sleep(tc.lives / flow.SweepsPerIdleTime * 2)
				if n := r.plane.Status().Flows; n != 0 {
					t.Errorf("still there after its idle time")
				}
			})
		})
	}
}

// Row F4: a new SYN on a closing flow opens a new one, and is judged by the policy
// again; on an established one it never is.
func TestSYNOnAnOldTuple(t *testing.T) {
	cfg := paperConfig()
	cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyRoundRobin
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		client := fromRouter(router, 4000, 80)
		r.open(router, 4000)
		r.put("nic0", client.tcp("S", ""))
		r.one("vnic-A") // established: no new choice
		r.silent("vnic-B")
		r.put("vnic-A", fromA(routerOnA, 80, 4000).tcp("RA", ""))
		r.put("nic0", client.tcp("S", ""))
		r.one("vnic-B") // closing: the next turn is b's
		r.silent("vnic-A")
		if n := r.plane.Status().Flows; n != 1 {
			t.Errorf("%d flows, want the new one only", n)
		}
	})
}

// Rows F4 and F9: idle times of UDP and echo. Traffic either way refreshes them.
func TestUDPAndICMPIdleTimes(t *testing.T) {
	for _, tc := range []struct {
		name            string
		request, answer []byte
		least, most     time.Duration
	}{
		{"udp", fromRouter(router, 4000, 53).udp("q"), fromA(routerOnA, 53, 4000).udp("a"), 2 * time.Minute, 6 * time.Minute},
		{"icmp", fromRouter(router, 4000, 0).echo("q"), fromA(routerOnA, 0, 4000).echo("a"), time.Minute, 2 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
				r.put("nic0", tc.request)
				time.Sleep(tc.least - time.Second)
				r.got("nic0") // ARP
				r.put("vnic-A", tc.answer)
				if d := decode(r.one("nic0")); d.src != pseudo || d.dst != router || !d.valid {
					t.Errorf("the answer is %+v", d)
				}
				time.Sleep(tc.least - time.Second)
				if r.plane.Status().Flows != 1 {
					t.Error("the answer did not refresh the flow")
				}
				time.Sleep(tc.most)
				if r.plane.Status().Flows != 0 {
					t.Error("an idle flow lives on")
				}
			})
		})
	}
}

// Row F9: UDP of any kind is a flow: many datagrams, both ways, several servers'
// ports.
func TestUDPFlows(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		for _, port := range []uint16{53, 123, 443} {
			for i := range 3 {
				payload := strings.Repeat("d", 1+i*500)
				r.put("nic0", fromRouter(farHost, 5000, port).udp(payload))
				d := decode(r.one("vnic-A"))
				if d.dport != port || d.payload != payload || !d.valid {
					t.Errorf("in: %+v", d)
				}
				r.put("vnic-A", fromA(d.src, port, 5000).udp(payload))
				if d := decode(r.one("nic0")); d.dst != farHost || d.sport != port || d.payload != payload || !d.valid {
					t.Errorf("out: %+v", d)
				}
			}
		}
		if n := r.plane.Status().Flows; n != 3 {
			t.Errorf("%d flows, want 3", n)
		}
		// More than userspace would be asked about, if it were.
		for i := range uint16(userspace.RefusalBurst + 10) {
			r.put("nic0", fromRouter(otherHost, 6000+i, 53).udp("q"))
			r.one("vnic-A")
		}
	})
}

// Row F11: what nobody takes is refused at once, or dropped as configured, and
// counted.
func TestRefusals(t *testing.T) {
	closedPort := func(c *config.Config) {
		for _, s := range c.Segments {
			s.Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}, {Protocol: config.UDP, First: 53, Last: 53}}
		}
	}
	noSegment := func(c *config.Config) {
		c.Bridges["lan"].LBPolicy = nil
		c.Bridges["lan"].Steer = []config.Rule{{Segment: "a", Clients: prefixes("198.51.100.0/24")}}
	}
	client := fromRouter(router, 4000, 81)
	for _, tc := range []struct {
		name   string
		change func(*config.Config)
		frame  []byte
		reason string
		answer string
	}{
		{"closed TCP port", closedPort, client.tcp("S", ""), "port_not_open", "RST"},
		{"closed UDP port", closedPort, client.udp("x"), "port_not_open", "unreachable"},
		{"no segment for TCP", noSegment, client.tcp("S", ""), "no_segment", "RST"},
		{"no segment for UDP", noSegment, client.udp("x"), "no_segment", "unreachable"},
		{"GRE", closedPort, withProtocol(47, client.udp("x")), "protocol", "protocol unreachable"},
		{"SCTP", closedPort, withProtocol(132, client.udp("x")), "protocol", "protocol unreachable"},
		{"a short packet of ESP", closedPort, withProtocol(50, client.udp("")[:packet.EthHeaderLen+packet.IPv4MinLen+4]), "protocol", "protocol unreachable"},
		{"no segment for echo", noSegment, fromRouter(router, 4000, 0).echo("x"), "no_segment", "unreachable"},
	} {
		for _, mode := range []config.OnNoSegment{"", config.Reject, config.Drop} {
			t.Run(fmt.Sprintf("%s %s", tc.name, mode), func(t *testing.T) {
				cfg := paperConfig()
				tc.change(cfg)
				cfg.Bridges["lan"].OnNoSegment = mode
				onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
					r.put("nic0", tc.frame)
					r.silent("vnic-A", "vnic-B")
					if n := r.drops("nic0", tc.reason); n != 1 {
						t.Errorf("%d counted as %s, want 1", n, tc.reason)
					}
					if mode == config.Drop {
						r.silent("nic0")
						return
					}
					d := decode(r.one("nic0"))
					if d.src != pseudo || d.dst != router || d.srcMAC != nicMAC || d.dstMAC != routerMAC || !d.valid {
						t.Errorf("the answer is %+v", d)
					}
					if got := answerKind(d); got != tc.answer {
						t.Errorf("the answer is %s, want %s", got, tc.answer)
					}
				})
			})
		}
	}
}

func answerKind(d decoded) string {
	switch {
	case d.proto == config.TCP && d.flags&packet.TCPRST != 0:
		return "RST"
	case d.proto == config.ICMP && d.icmp == packet.ICMPUnreachable && d.code == 2:
		return "protocol unreachable"
	case d.proto == config.ICMP && d.icmp == packet.ICMPUnreachable:
		return "unreachable"
	}
	return "something else"
}

// Row F11: the RST is one that the client's stack believes (RFC 9293 §3.10.7.1).
func TestARefusalIsBelieved(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 80, Last: 80}}
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		r.put("nic0", fromRouter(router, 4000, 81).tcp("S", ""))
		raw := r.one("nic0")
		tcp := raw[packet.EthHeaderLen+packet.IPv4MinLen:]
		if ack := binary.BigEndian.Uint32(tcp[8:]); ack != 1001 || tcp[13]&packet.TCPACK == 0 {
			t.Errorf("acknowledges %d, want the SYN's 1000 and one more", ack)
		}
	})
}

// Row F11: refusals are bounded in rate, and a RST is never answered.
func TestRefusalsAreBounded(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		r.put("nic0", fromRouter(router, 4000, 80).tcp("R", ""))
		r.silent("nic0")
		for i := range 3 * userspace.RefusalBurst {
			r.put("nic0", fromRouter(router, uint16(i), 80).tcp("A", ""))
		}
		if n := len(r.got("nic0")); n != userspace.RefusalBurst {
			t.Errorf("%d refusals in no time, want %d", n, userspace.RefusalBurst)
		}
		time.Sleep(time.Second)
		r.got("nic0")
		r.put("nic0", fromRouter(router, 1, 80).tcp("A", ""))
		if n := len(r.got("nic0")); n != 1 {
			t.Errorf("%d refusals a second later, want 1", n)
		}
	})
}

// Row F12: a segment reaches its gateway by the alias, and nothing else; with
// egress off, nothing at all.
func TestEgress(t *testing.T) {
	for _, egress := range []config.Egress{"", config.EgressGateway, config.EgressOff} {
		t.Run(fmt.Sprintf("egress %s", egress), func(t *testing.T) {
			cfg := paperConfig()
			cfg.Segments["a"].Egress = egress
			onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
				r.put("vnic-A", fromA(routerOnA, 7, 0).echo("x"))
				if egress == config.EgressOff {
					r.silent("nic0", "vnic-A", "vnic-B")
					if n := r.drops("vnic-A", "egress_denied"); n != 1 {
						t.Errorf("%d counted, want 1", n)
					}
					return
				}
				d := decode(r.one("nic0"))
				if d.src != pseudo || d.dst != router || d.sport != 7 || d.srcMAC != nicMAC || d.dstMAC != routerMAC || !d.valid {
					t.Errorf("out: %+v", d)
				}
				r.put("nic0", fromRouter(router, 0, 7).echo("x"))
				if d := decode(r.one("vnic-A")); d.src != routerOnA || d.dst != serverA || d.dport != 7 || !d.valid {
					t.Errorf("back: %+v", d)
				}
				r.put("vnic-A", fromA("192.168.50.3", 7, 0).echo("x"), fromA(farHost, 7, 80).tcp("S", ""), fromA(pseudo, 7, 80).tcp("S", ""))
				r.silent("nic0", "vnic-A", "vnic-B")
				if n := r.drops("vnic-A", "egress_denied"); n != 3 {
					t.Errorf("%d counted, want 3", n)
				}
			})
		})
	}
}

// Row F12: egress any reaches what the gateway reaches, and still no segment, host
// address or group.
func TestEgressAny(t *testing.T) {
	cfg := paperConfig()
	cfg.Segments["a"].Egress = config.EgressAny
	onEachDataPath(t, cfg, func(t *testing.T, r *rig) {
		if via := r.machine.devices["vnic-A"].settings.Via[config.IPv4]; via.String() != routerOnA {
			t.Errorf("the way out is by %s, want the gateway's alias", via)
		}
		r.put("vnic-A", fromA(farHost, 4000, 53).udp("question"))
		d := decode(r.one("nic0"))
		if d.src != pseudo || d.dst != farHost || d.sport != 4000 || d.dstMAC != routerMAC || !d.valid {
			t.Errorf("out: %+v", d)
		}
		r.put("nic0", fromRouter(farHost, 53, 4000).udp("answer"))
		if d := decode(r.one("vnic-A")); d.src != farHost || d.dst != serverA || d.dport != 4000 || !d.valid {
			t.Errorf("back: %+v", d)
		}
		for _, dst := range []string{serverB, routerOnB, pseudo, "127.0.0.1", "224.0.0.5", "255.255.255.255", "192.168.50.3"} {
			r.put("vnic-A", fromA(dst, 4000, 53).udp("no"))
		}
		r.silent("nic0", "vnic-A", "vnic-B")
	})
}

// Row F12: two segments use the same port to the gateway at once; the bridge maps
// one of them, and nothing collides.
func TestEgressPortsAreMapped(t *testing.T) {
	onEachDataPath(t, paperConfig(), func(t *testing.T, r *rig) {
		fromB := ends{vnicBMAC, routerMAC, serverB, routerOnB, 5353, 53}
		r.put("vnic-A", fromA(routerOnA, 5353, 53).udp("a"))
		a := decode(r.one("nic0"))
		r.put("vnic-B", fromB.udp("b"))
		b := decode(r.one("nic0"))
		if a.sport != 5353 || b.sport == a.sport || b.sport < 1024 || !a.valid || !b.valid {
			t.Errorf("a goes out by port %d, b by %d", a.sport, b.sport)
		}
		r.put("nic0", fromRouter(router, 53, b.sport).udp("for b"))
		if d := decode(r.one("vnic-B")); d.dport != 5353 || d.payload != "for b" || !d.valid {
			t.Errorf("b got %+v", d)
		}
		r.put("nic0", fromRouter(router, 53, a.sport).udp("for a"))
		if d := decode(r.one("vnic-A")); d.dport != 5353 || d.payload != "for a" || !d.valid {
			t.Errorf("a got %+v", d)
		}
	})
}

func tupleOf(e ends, proto config.Protocol) packet.Tuple {
	return packet.Tuple{Src: mustAddr(e.src), Dst: mustAddr(e.dst), Sport: e.sport, Dport: e.dport, Proto: proto}
}
