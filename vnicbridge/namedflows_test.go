package vnicbridge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/iface"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/packet"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/userspace"
)

// serverOffers are SYN-ACKs of servers that offer other things than the bridge.
var serverOffers = map[string]func(*tcpSegment){
	"a larger scale":      func(*tcpSegment) {},
	"the same scale":      func(s *tcpSegment) { s.scale = []byte{7} },
	"a smaller scale":     func(s *tcpSegment) { s.scale = []byte{2} },
	"no scale":            func(s *tcpSegment) { s.scale = nil },
	"no timestamps":       func(s *tcpSegment) { s.times = nil },
	"no SACK":             func(s *tcpSegment) { s.permitted = false },
	"nothing":             func(s *tcpSegment) { s.scale, s.times, s.permitted, s.mss = nil, nil, false, 0 },
	"a number that wraps": func(s *tcpSegment) { s.seq = 1<<32 - 1 },
}

// shifts is how the numbers of an open connection differ, by what both ends were told.
type shifts struct {
	seq, time          uint32
	toClient, toServer int
}

func (c *talk) shifts() (s shifts) {
	s.seq = c.offer.seq - c.accepts.seq
	if c.offer.times != nil && c.accepts.times != nil {
		s.time = c.offer.times[0] - c.accepts.times[0]
	}
	scale := func(of tcpSegment) int {
		if of.scale == nil {
			return 0
		}
		return int(of.scale[0])
	}
	if c.asks.scale != nil {
		s.toClient = scale(c.accepts) - scale(c.offer)
		if c.accepts.scale == nil {
			s.toServer = scale(c.asks)
		}
	}
	return s
}

// shifted returns a window that is scaled by more bits. It saturates, and is zero only if it was.
func shifted(window uint16, bits int) uint16 {
	if window == 0 || bits == 0 {
		return window
	}
	if bits < 0 {
		return max(window>>-bits, 1)
	}
	return uint16(min(uint32(window)<<bits, 0xffff))
}

// toServer returns a segment of the client as the server must get it.
func (c *talk) toServer(s tcpSegment) tcpSegment {
	by := c.shifts()
	s.window = shifted(s.window, by.toServer)
	if s.flags&packet.TCPACK == 0 {
		return s
	}
	s.ack -= by.seq
	if s.times != nil {
		s.times = []uint32{s.times[0], s.times[1] - by.time}
	}
	s.sack = slices.Clone(s.sack)
	for i := range s.sack {
		s.sack[i] -= by.seq
	}
	return s
}

// toClient returns a segment of the server as the client must get it.
func (c *talk) toClient(s tcpSegment) tcpSegment {
	by := c.shifts()
	s.seq += by.seq
	s.window = shifted(s.window, by.toClient)
	if s.times != nil {
		s.times = []uint32{s.times[0] + by.time, s.times[1]}
	}
	return s
}

// Rows N5 and N9: whatever the server accepts, each end gets the numbers that it knows in every
// later segment: sequence numbers, acknowledgments, SACK blocks, timestamps and windows. The
// checksums are right, and the rest is as it was.
func TestNumbersOfNamedFlows(t *testing.T) {
	for name, change := range serverOffers {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000)
				change(&c.accepts)
				c.opens()
				c.passNumbers()
				c.odd = true
				c.passNumbers()
			})
		})
	}
}

// passNumbers lets both ends send segments of all kinds, and checks what the other end gets.
func (c *talk) passNumbers() {
	const ack = packet.TCPACK
	withSACK := func(s tcpSegment, edges ...uint32) tcpSegment {
		for _, at := range edges {
			s.sack = append(s.sack, c.offer.seq+1+at)
		}
		return s
	}
	with := func(s tcpSegment, change func(*tcpSegment)) tcpSegment {
		change(&s)
		return s
	}
	for what, s := range map[string]tcpSegment{
		"data":              c.clientSays(ack|tcpPSH, 0, "data of an odd length"[:21]),
		"an acknowledgment": c.clientSays(ack, 5000, ""),
		"a zero window":     with(c.clientSays(ack, 0, ""), func(s *tcpSegment) { s.window = 0 }),
		"a large window":    with(c.clientSays(ack, 0, ""), func(s *tcpSegment) { s.window = 65535 }),
		"a small window":    with(c.clientSays(ack, 0, ""), func(s *tcpSegment) { s.window = 1 }),
		"urgent data":       with(c.clientSays(ack|tcpURG, 0, "urgent"), func(s *tcpSegment) { s.urgent = 6 }),
		"a keep-alive":      with(c.clientSays(ack, 0, ""), func(s *tcpSegment) { s.seq-- }),
		"one SACK block":    withSACK(c.clientSays(ack, 0, ""), 100, 1<<31),
		"three SACK blocks": withSACK(c.clientSays(ack, 0, "with data"), 100, 200, 300, 400, 500, 600),
	} {
		c.sends(s)
		same(c.t, what+" of the client", c.atServer(), c.toServer(s))
	}
	for what, s := range map[string]tcpSegment{
		"data":           c.serverSays(ack|tcpPSH, 0, "data of an even length"),
		"later data":     c.serverSays(ack, 1<<31, "odd"),
		"a zero window":  with(c.serverSays(ack, 0, ""), func(s *tcpSegment) { s.window = 0 }),
		"a large window": with(c.serverSays(ack, 0, ""), func(s *tcpSegment) { s.window = 65535 }),
		"a small window": with(c.serverSays(ack, 0, ""), func(s *tcpSegment) { s.window = 1 }),
		"urgent data":    with(c.serverSays(ack|tcpURG, 0, "urgent"), func(s *tcpSegment) { s.urgent = 6 }),
		"a window probe": with(c.serverSays(ack, 0, ""), func(s *tcpSegment) { s.seq-- }),
		"SACK blocks":    with(c.serverSays(ack, 0, ""), func(s *tcpSegment) { s.sack = []uint32{c.clientSeq + 10, c.clientSeq + 20} }),
	} {
		c.answers(s)
		same(c.t, what+" of the server", c.atClient(), c.toClient(s))
	}
}

// Rows N5 and F4: the end of a connection has the right numbers too, and ends the flow.
func TestTheEndOfANamedFlow(t *testing.T) {
	const fin = packet.TCPFIN | packet.TCPACK
	for name, tc := range map[string]struct {
		ends func(c *talk) (client, server []tcpSegment)
	}{
		"both FINs": {func(c *talk) (client, server []tcpSegment) {
			return []tcpSegment{c.clientSays(fin, 0, "")}, []tcpSegment{c.serverSays(fin, 0, "bye")}
		}},
		"the client's RST": {func(c *talk) (client, server []tcpSegment) {
			return []tcpSegment{{flags: packet.TCPRST, seq: c.clientSeq}}, nil
		}},
		"the client's RST with an ACK": {func(c *talk) (client, server []tcpSegment) {
			return []tcpSegment{c.clientSays(packet.TCPRST|packet.TCPACK, 0, "")}, nil
		}},
		"the server's RST": {func(c *talk) (client, server []tcpSegment) {
			return nil, []tcpSegment{{flags: packet.TCPRST, seq: c.accepts.seq + 1}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.openNamed(o, 4000)
				c.answers(c.serverSays(packet.TCPACK, 0, ""))
				c.atClient()
				client, server := tc.ends(c)
				for _, s := range client {
					c.sends(s)
					same(t, "of the client", c.atServer(), c.toServer(s))
				}
				for _, s := range server {
					c.answers(s)
					same(t, "of the server", c.atClient(), c.toClient(s))
				}
				if class := r.onlyFlow().Class(); class != flow.ClassClosing {
					t.Errorf("the flow's class is %d, want %d", class, flow.ClassClosing)
				}
			})
		})
	}
}

// Rows N5 and F4+: a RST counts only if its receiver could accept it, by the receiver's own numbers.
func TestWhichRSTOfANamedFlowCounts(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.openNamed(o, 4000)
		c.answers(c.serverSays(packet.TCPACK, 0, ""))
		for _, s := range []tcpSegment{{flags: packet.TCPRST, seq: c.accepts.seq}, {flags: packet.TCPRST, seq: c.offer.seq + 1}} {
			c.answers(s) // before what the client has acknowledged, and with a number that only the client knows
		}
		if class := r.onlyFlow().Class(); class != flow.ClassEstablished {
			t.Errorf("the flow's class is %d, want %d", class, flow.ClassEstablished)
		}
	})
}

// Row N9: a super-packet of either end is translated, and stays whole.
func TestSuperPacketsOfNamedFlows(t *testing.T) {
	long := strings.Repeat("super", 600)
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.openNamed(o, 4000)
		gso := map[string]byte{"IPv4": 1, "IPv6": 4}[o.name] // VIRTIO_NET_HDR_GSO_TCPV4 and 6
		s := c.clientSays(packet.TCPACK, 0, long)
		r.putSuper("nic0", s.from(c.client), gso, 1000)
		same(t, "of the client", c.atServer(), c.toServer(s))
		s = c.serverSays(packet.TCPACK, 0, long)
		r.putSuper(c.vnic, s.from(c.server), gso, 1000)
		same(t, "of the server", c.atClient(), c.toClient(s))
	})
}

// Rows F6, F8 and N5: an ICMP error about a packet of the server's quotes the numbers that the
// server knows. Both checksums are right.
func TestErrorsAboutNamedFlows(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.openNamed(o, 4000)
		s := c.serverSays(packet.TCPACK, 100, "an answer")
		c.answers(s)
		sent := r.one("nic0")
		kind := map[string]byte{"IPv4": packet.ICMPUnreachable, "IPv6": packet.ICMPv6PacketTooBig}[o.name]
		for _, quoted := range []int{8, 20, 500} {
			ipLen := tcpAt(sent) - packet.EthHeaderLen
			r.put("nic0", o.from(o.host, 0, 0).icmpErrorAbout(kind, sent, ipLen+quoted))
			raw := r.one(c.vnic)
			d := decode(raw)
			if d.icmp != kind || !d.valid {
				t.Errorf("%d bytes: the server gets %+v", quoted, d)
			}
			quote := append(make([]byte, packet.EthHeaderLen), raw[tcpAt(raw)+packet.ICMPHeaderLen:]...)
			copy(quote[12:], sent[12:14])
			if got := seqOf(quote); got != s.seq {
				t.Errorf("%d bytes: the error quotes the number %d, want %d", quoted, got, s.seq)
			}
			if q := tcpAt(quote); quoted == 500 && !decode(quote).valid {
				t.Errorf("the quoted checksum is wrong: %x", quote[q:])
			}
		}
		// An error about a packet of the client's, whose number is the same at both ends.
		s = c.clientSays(packet.TCPACK, 0, "a question")
		c.sends(s)
		r.put(c.vnic, c.server.icmpErrorAbout(kind, r.one(c.vnic), 500))
		raw := r.one("nic0")
		quote := append(make([]byte, packet.EthHeaderLen), raw[tcpAt(raw)+packet.ICMPHeaderLen:]...)
		if d := decode(raw); d.icmp != kind || !d.valid || seqOf(quote) != s.seq {
			t.Errorf("the client gets %+v, about number %d, want %d", d, seqOf(quote), s.seq)
		}
	})
}

// Rows F8 and N5: a server that sends a packet that does not fit the NIC's link is told so about the
// packet as it was sent. A client's packet fits a VNIC whatever its size.
func TestTooBigPacketsOfNamedFlows(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.openNamed(o, 4000)
		r.nicChanges(iface.LinkState{Up: true, MAC: nicMAC, MTU: 1300})
		r.pass(0)
		long := strings.Repeat("x", 1350)
		sent := c.serverSays(packet.TCPACK, 0, long).from(c.server)
		r.put(c.vnic, sent)
		raw := r.one(c.vnic)
		kind := map[string]byte{"IPv4": packet.ICMPUnreachable, "IPv6": packet.ICMPv6PacketTooBig}[o.name]
		if d := decode(raw); d.icmp != kind || !d.valid {
			t.Errorf("the server gets %+v", d)
		}
		quoted, header := raw[tcpAt(raw)+packet.ICMPHeaderLen:], sent[packet.EthHeaderLen:tcpAt(sent)+32]
		if !bytes.HasPrefix(quoted, header) {
			t.Errorf("the error quotes\n%x, want\n%x", quoted[:len(header)], header)
		}
		s := c.clientSays(packet.TCPACK, 0, long)
		c.sends(s)
		same(t, "of the client", c.atServer(), c.toServer(s))
	})
}

// seqOf returns the sequence number in a frame.
func seqOf(raw []byte) uint32 {
	at := tcpAt(raw) + 4
	return uint32(raw[at])<<24 | uint32(raw[at+1])<<16 | uint32(raw[at+2])<<8 | uint32(raw[at+3])
}

// Rows F5 and N5: if the flow is lost, nobody knows how its numbers differ. The client gets a RST,
// and nothing of either end goes on.
func TestALostNamedFlow(t *testing.T) {
	for _, policy := range []config.PolicyName{config.PolicyFirst, config.PolicyIPHash} {
		cfg := namedConfig()
		cfg.Bridges["lan"].LBPolicy = &config.Policy{Policy: policy, Segments: []string{"a"}}
		cfg.Segments["a"].ClientIP = config.Preserve
		t.Run(string(policy), func(t *testing.T) {
			withNames(t, cfg, func(t *testing.T, r *rig, o outsider) {
				c := r.openNamed(o, 4000)
				r.lose()
				c.answers(c.serverSays(packet.TCPACK, 0, "an answer"))
				r.silent("nic0", "vnic-A", "vnic-B")
				s := c.clientSays(packet.TCPACK, 0, "a question")
				c.sends(s)
				if got := c.atClient(); got.flags != packet.TCPRST || got.seq != s.ack {
					t.Errorf("the client gets %+v", got)
				}
				r.silent("vnic-A", "vnic-B")
			})
		})
	}
}

// Row F10: if a segment is removed, both ends get RSTs with the numbers that each expects.
func TestNamedFlowsOfARemovedSegment(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.openNamed(o, 4000)
		c.answers(c.serverSays(packet.TCPACK, 0, "unacknowledged"))
		c.atClient()
		c.sends(c.clientSays(packet.TCPACK, 0, "question"))
		c.atServer()
		segment := r.machine.devices[c.vnic]
		next := namedConfig()
		delete(next.Segments, "a")
		next.Bridges["lan"].Steer[0].Segment = "b"
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		numbers := func(frames [][]byte) (numbers []uint32) {
			for _, raw := range resets(frames) {
				numbers = append(numbers, readTCP(t, raw).seq)
			}
			return numbers
		}
		if got, want := numbers(r.got("nic0")), []uint32{c.offer.seq + 1, c.offer.seq + 1 + 14}; !slices.Equal(got, want) {
			t.Errorf("the client gets RSTs with %d, want %d", got, want)
		}
		if got, want := numbers(segment.take()), []uint32{c.clientSeq, c.clientSeq + 8}; !slices.Equal(got, want) {
			t.Errorf("the server gets RSTs with %d, want %d", got, want)
		}
	})
}

// Row F10: a segment that is removed while its server is asked leaves the client a RST.
func TestASegmentIsRemovedWhileItIsAsked(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
		next := namedConfig()
		delete(next.Segments, "a")
		next.Bridges["lan"].Steer[0].Segment = "b"
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		r.got("nic0")
		time.Sleep(2 * maintainInterval)
		if got := resets(r.got("nic0")); len(got) != 1 || readTCP(t, got[0]).seq != c.offer.seq+1 {
			t.Errorf("the client gets %x", got)
		}
	})
}

// Row F4: a client that uses its port again after the end is greeted anew, and gets another segment
// if it asks for another name.
func TestAPortIsUsedAgainWithAnotherName(t *testing.T) {
	t.Run("at once", func(t *testing.T) { testAPortIsUsedAgain(t, false) })
	t.Run("in a flood", func(t *testing.T) { testAPortIsUsedAgain(t, true) })
}

func testAPortIsUsedAgain(t *testing.T, flooded bool) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.openNamed(o, 4000)
		c.sends(c.clientSays(packet.TCPFIN|packet.TCPACK, 0, ""))
		c.clientSeq++
		c.answers(c.serverSays(packet.TCPFIN|packet.TCPACK, 0, ""))
		r.pass(time.Second)
		next := r.talk(o, 4000)
		next.asks.seq += 1 << 16
		if flooded {
			r.floodSYNs(userspace.SYNBurst)
		}
		next.greet()
		if grown := next.offer.seq - c.offer.seq; !flooded && (grown == 0 || grown >= 1<<31) {
			t.Errorf("the number of the bridge grows by %d", int32(grown))
		}
		next.sends(next.says(0, strings.Replace(headOfA, "www.a", "www.b", 1)))
		next.asksForSegment("b")
		next.accept()
		s := next.serverSays(packet.TCPACK, 0, "answer")
		next.answers(s)
		same(t, "the answer", next.atClient(), next.toClient(s))
		r.silent("vnic-A")
	})
}

// Rows F4+ and N5: after a RST that the server may not have accepted, the client's SYN goes to the
// same server. If that accepts a new connection, both ends have told each other their numbers
// themselves, and these are not shifted.
func TestTheNextConnectionOfANamedFlow(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.openNamed(o, 4000)
		c.answers(c.serverSays(packet.TCPACK, 0, ""))
		c.sends(tcpSegment{flags: packet.TCPRST, seq: c.clientSeq + 100})
		r.pass(0)
		c.asks.seq += 1 << 20
		c.accepts.seq, c.accepts.ack = 1<<20, c.asks.seq+1
		c.sends(c.asks)
		same(t, "the SYN", c.atServer(), c.asks)
		c.answers(c.accepts)
		same(t, "the SYN-ACK", c.atClient(), c.accepts)
		c.offer, c.clientSeq, c.echo = c.accepts, c.asks.seq+1, c.accepts.times[0]
		s := c.clientSays(packet.TCPACK, 0, "question")
		c.sends(s)
		same(t, "of the client", c.atServer(), s)
		s = c.serverSays(packet.TCPACK, 0, "answer")
		c.answers(s)
		same(t, "of the server", c.atClient(), s)
	})
}

// Row L4: connections go on after a reload that removes the names, also if it changes the data path
// or the size of the flow table.
func TestNamedFlowsOutliveTheirNames(t *testing.T) {
	for name, change := range withoutNames {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.openNamed(o, 4000)
				next := namedConfig()
				next.Bridges["lan"].Steer = nil
				change(next)
				if err := r.plane.Apply(next); err != nil {
					t.Fatal(err)
				}
				r.pass(0)
				c.wantsToGoOn()
			})
		})
	}
}

// withoutNames are changes of a configuration that no longer has rules with names.
var withoutNames = map[string]func(*config.Config){
	"nothing else":        func(*config.Config) {},
	"the size":            func(cfg *config.Config) { cfg.MaxFlows = 5000 },
	"the data path":       func(cfg *config.Config) { cfg.Datapath = config.DatapathUserspace },
	"a policy that lasts": func(cfg *config.Config) { cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyIPHash },
	"the size, both ways": func(cfg *config.Config) { cfg.MaxFlows = 100 },
}

// Row N9: if a reload takes the rules with names away, a client that the bridge has greeted goes on
// with the segment that the new rules choose, whether it has told something already or not.
func TestGreetingsOutliveTheNames(t *testing.T) {
	for name, change := range withoutNames {
		for _, told := range []string{"", headOfA[:20]} {
			t.Run(fmt.Sprintf("%s, %d bytes told", name, len(told)), func(t *testing.T) {
				withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
					c := r.talk(o, 4000).greet()
					if told != "" {
						c.sends(c.says(0, told))
					}
					next := namedConfig()
					next.Bridges["lan"].Steer = nil
					change(next)
					if err := r.plane.Apply(next); err != nil {
						t.Fatal(err)
					}
					same(t, "the SYN", c.asksForSegment("b"), c.asks)
					c.sends(c.says(len(told), headOfA[len(told):]))
					c.clientSeq += uint32(len(headOfA))
					if got := payloads(c.accept()); got != headOfA {
						t.Errorf("the server gets %q", got)
					}
					r.got("nic0")
					c.wantsToGoOn()
				})
			})
		}
	}
}

// wantsToGoOn checks that both ends of an open connection reach each other.
func (c *talk) wantsToGoOn() {
	c.t.Helper()
	s := c.clientSays(packet.TCPACK, 0, "question")
	c.sends(s)
	same(c.t, "of the client", c.atServer(), c.toServer(s))
	s = c.serverSays(packet.TCPACK, 0, "answer")
	c.answers(s)
	same(c.t, "of the server", c.atClient(), c.toClient(s))
}

// Row N9: a change of the data path keeps open connections, and those that are opening.
func TestNamedFlowsMove(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		open, asking, silent := r.openNamed(o, 4000), r.talk(o, 4001).greet(), r.talk(o, 4002).greet()
		asking.sends(asking.says(0, headOfA))
		asking.asksForSegment("a")
		for i, datapath := range []config.Datapath{config.DatapathUserspace, config.DatapathAuto, config.DatapathAuto} {
			next := namedConfig()
			next.Datapath, next.MaxFlows = datapath, 5000+1000*i
			if err := r.plane.Apply(next); err != nil {
				t.Fatal(err)
			}
			r.pass(0)
			open.wantsToGoOn()
		}
		asking.clientSeq += uint32(len(headOfA))
		if got := payloads(asking.accept()); got != headOfA {
			t.Errorf("the server gets %q", got)
		}
		asking.wantsToGoOn()
		silent.sends(silent.says(0, headOfA))
		silent.asksForSegment("a")
	})
}

// Row F5+: at the end of the process both ends of a named flow are told, because no successor knows
// how its numbers differ.
func TestNamedFlowsDoNotComeBack(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		r.openNamed(o, 4000)
		next := namedConfig()
		next.Bridges["lan"].Steer = nil
		next.Bridges["lan"].LBPolicy = &config.Policy{Policy: config.PolicyIPHash, Segments: []string{"a"}}
		if err := r.plane.Apply(next); err != nil {
			t.Fatal(err)
		}
		r.pass(0)
		nic, vnic := r.machine.devices["nic0"], r.machine.devices["vnic-A"]
		if err := r.plane.Leave(); err != nil {
			t.Fatal(err)
		}
		for _, side := range []*memoryDevice{nic, vnic} {
			if n := len(resets(side.take())); n == 0 {
				t.Error("a side is not told")
			}
		}
	})
}
