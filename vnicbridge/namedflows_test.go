package vnicbridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/internal/flow"
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

// Row N7: if the server refuses, the client gets a RST that the client accepts.
func TestAServerThatRefusesAName(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
		const refusal = packet.TCPRST | packet.TCPACK
		for _, forged := range []tcpSegment{
			{flags: refusal, ack: c.asks.seq}, {flags: refusal, ack: c.asks.seq + 2}, {flags: packet.TCPRST, seq: c.accepts.seq},
		} {
			c.answers(forged)
			r.silent("nic0", c.vnic)
		}
		c.answers(tcpSegment{flags: refusal, ack: c.asks.seq + 1})
		if got := c.atClient(); got.flags != packet.TCPRST || got.seq != c.offer.seq+1 {
			t.Errorf("the client gets %+v, want a RST with %d", got, c.offer.seq+1)
		}
		c.sends(c.says(len(headOfA), "more"))
		if got := c.atClient(); got.flags&packet.TCPRST == 0 {
			t.Errorf("then the client gets %+v", got)
		}
		r.silent(c.vnic)
		c.asks.seq += 1 << 20 // it tries again
		c.opens()
	})
}

// Row N7: a server that is silent gets the SYN again after 1, 3 and 7 s. After 10 s the client gets
// a RST, and nothing is left.
func TestASilentServer(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		syn := c.asksForSegment("a")
		began := time.Now()
		var asked, reset []time.Duration
		for time.Since(began) < 3*userspace.ServerTime {
			time.Sleep(maintainInterval)
			after := time.Since(began).Truncate(time.Second)
			for _, raw := range r.got(c.vnic) {
				same(t, fmt.Sprintf("the SYN after %v", after), readTCP(t, raw), syn)
				asked = append(asked, after)
			}
			for _, raw := range r.got("nic0") {
				if d := decode(raw); d.proto != config.TCP {
					continue
				}
				if got := readTCP(t, raw); got.flags != packet.TCPRST || got.seq != c.offer.seq+1 {
					t.Errorf("the client gets %+v", got)
				}
				reset = append(reset, after)
			}
		}
		if want := []time.Duration{1 * time.Second, 3 * time.Second, 7 * time.Second}; !slices.Equal(asked, want) {
			t.Errorf("the SYN comes again after %v, want %v", asked, want)
		}
		if want := []time.Duration{userspace.ServerTime}; !slices.Equal(reset, want) {
			t.Errorf("the client is reset after %v, want %v", reset, want)
		}
		if n := r.plane.Status().Flows; n != 0 {
			t.Errorf("%d flows are left", n)
		}
		c.answers(c.accepts)
		for _, raw := range r.got("nic0") {
			if d := decode(raw); d.proto == config.TCP {
				t.Errorf("then the client gets %+v", d)
			}
		}
	})
}

// Row N6: what is lost is repaired by whoever sent it: the SYN-ACK by the server, and data by the
// client.
func TestOpeningIsRepaired(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		c.sends(c.says(0, headOfA))
		c.asksForSegment("a")
		r.pass(1500 * time.Millisecond) // the first SYN-ACK is lost, and the SYN comes again
		c.sends(c.says(0, headOfA))
		if got := payloads(c.accept()); got != headOfA {
			t.Errorf("the server gets %q", got)
		}
		// All that was delivered is lost. The server repeats its SYN-ACK, which the client knows.
		c.answers(c.accepts)
		got := c.atClient()
		if got.flags != synAck || got.seq != c.offer.seq || got.ack != c.offer.ack || !slices.Equal(got.times, c.offer.times) {
			t.Errorf("the client gets %+v, want the numbers of %+v", got, c.offer)
		}
		again := c.says(0, headOfA)
		c.sends(again)
		same(t, "the retransmission", c.atServer(), c.toServer(again))
	})
}

// Rows N3 and N6: what a client sends while its server answers neither ends the connection, nor is
// lost, nor overtakes what the client has sent before.
func TestTheClientSendsWhileTheServerAnswers(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		for port := range uint16(300) {
			c := r.talk(o, 4000+port).greet()
			c.sends(c.says(0, headOfA))
			c.asksForSegment("a")
			more, answer := asFrame(c.says(len(headOfA), "more").from(c.client)), asFrame(c.accepts.from(c.server))
			go func() { r.machine.devices["nic0"].in <- more }()
			r.machine.devices[c.vnic].in <- answer
			synctest.Wait()
			var got []tcpSegment
			for _, raw := range r.got(c.vnic) {
				got = append(got, readTCP(t, raw))
			}
			if all := payloads(got); all != headOfA+"more" {
				t.Fatalf("connection %d: the server gets %q", port, all)
			}
			r.silent("nic0")
		}
	})
}

// Row N7: a server that still has an older connection answers the SYN with its old numbers. It gets
// a RST, as from any client, and then the SYN again (RFC 9293 §3.10.7.3).
func TestAnOldConnectionOfTheServer(t *testing.T) {
	for name, ack := range map[string]uint32{"another number": 12345, "the number of the SYN": 1<<32 - 19} {
		t.Run(name, func(t *testing.T) {
			withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
				c := r.talk(o, 4000).greet()
				c.sends(c.says(0, headOfA))
				syn := c.asksForSegment("a")
				c.answers(tcpSegment{flags: packet.TCPACK, seq: 99, ack: ack, window: 501})
				if got := c.atServer(); got.flags != packet.TCPRST || got.seq != ack {
					t.Errorf("the server gets %+v, want a RST with %d", got, ack)
				}
				r.silent("nic0")
				time.Sleep(1200 * time.Millisecond)
				same(t, "the SYN", c.atServer(), syn)
				if got := payloads(c.accept()); got != headOfA {
					t.Errorf("the server gets %q", got)
				}
			})
		})
	}
}

// Row N7: if no segment is available, or the segment does not open the port, the client gets a RST,
// because its connection is open already.
func TestANameWithoutAServer(t *testing.T) {
	closed, unavailable := namedConfig(), namedConfig()
	closed.Segments["a"].Ports = []config.PortRange{{Protocol: config.TCP, First: 443, Last: 443}}
	unavailable.Bridges["lan"].OnNoSegment = config.Drop
	for reason, tc := range map[string]struct {
		cfg    *config.Config
		before func(*rig)
	}{
		"port_not_open": {closed, func(*rig) {}},
		"no_segment":    {unavailable, func(r *rig) { _ = r.plane.SetState("a", config.Draining) }},
	} {
		t.Run(reason, func(t *testing.T) {
			withNames(t, tc.cfg, func(t *testing.T, r *rig, o outsider) {
				tc.before(r)
				c := r.talk(o, 4000).greet()
				c.sends(c.says(0, headOfA))
				if got := c.atClient(); got.flags != packet.TCPRST || got.seq != c.offer.seq+1 {
					t.Errorf("the client gets %+v", got)
				}
				r.silent("vnic-A", "vnic-B")
				if n := r.drops("nic0", reason); n != 1 {
					t.Errorf("%d are counted, want 1", n)
				}
				if n := r.plane.Status().Flows; n != 0 {
					t.Errorf("%d flows are left", n)
				}
			})
		})
	}
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
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.openNamed(o, 4000)
		c.sends(c.clientSays(packet.TCPFIN|packet.TCPACK, 0, ""))
		c.clientSeq++
		c.answers(c.serverSays(packet.TCPFIN|packet.TCPACK, 0, ""))
		r.pass(time.Second)
		next := r.talk(o, 4000)
		next.asks.seq += 1 << 16
		next.greet()
		if grown := next.offer.seq - c.offer.seq; grown == 0 || grown >= 1<<31 {
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
	for name, change := range map[string]func(*config.Config){
		"nothing else":        func(*config.Config) {},
		"the size":            func(cfg *config.Config) { cfg.MaxFlows = 5000 },
		"the data path":       func(cfg *config.Config) { cfg.Datapath = config.DatapathUserspace },
		"a policy that lasts": func(cfg *config.Config) { cfg.Bridges["lan"].LBPolicy.Policy = config.PolicyIPHash },
		"the size, both ways": func(cfg *config.Config) { cfg.MaxFlows = 100 },
	} {
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

// Row S7: a host that is banned while it is greeted reaches nothing, and is told nothing.
func TestABannedHostIsNotGreeted(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		r.talk(o, 4000).greet()
		asking := r.talk(o, 4001).greet()
		asking.sends(asking.says(0, headOfA))
		asking.asksForSegment("a")
		r.ban(BanRequest{}, o.network)
		for range 60 {
			time.Sleep(maintainInterval)
			for _, device := range []string{"nic0", "vnic-A", "vnic-B"} {
				for _, raw := range r.got(device) {
					if d := decode(raw); d.proto == config.TCP {
						t.Fatalf("%s sent %+v", device, d)
					}
				}
			}
		}
	})
}

// Rows N8, L1 and L2: a flood of SYNs takes bounded memory. It makes greetings go that nobody has
// acknowledged, the oldest first. It touches neither open connections nor those that are opening.
func TestAFloodOfGreetings(t *testing.T) {
	onEachDataPath(t, namedConfig(), func(t *testing.T, r *rig) {
		o := outsiders[0]
		open, opening, first := r.openNamed(o, 4000), r.talk(o, 4001).greet(), r.talk(o, 4002).begin()
		asking := r.talk(o, 4003).greet()
		asking.sends(asking.says(0, headOfA))
		asking.asksForSegment("a")
		flooded := func(i int) *talk {
			c := r.talk(o, uint16(1024+i%60000))
			c.client = fromRouter(client(i%50), uint16(1024+i/50), 80)
			return c
		}
		for i := range userspace.MaxGreetings {
			r.put("nic0", flooded(i).asks.from(flooded(i).client))
			if i%1000 == 0 {
				r.got("nic0")
			}
		}
		last, forger := flooded(userspace.MaxGreetings), flooded(userspace.MaxGreetings+1)
		r.pass(0)
		last.begin() // with a cookie, as there is no room
		forger.begin()

		for _, c := range []*talk{opening, first, last} {
			c.sends(c.says(0, headOfA))
			c.asksForSegment("a")
			if got := payloads(c.accept()); got != headOfA {
				t.Errorf("the server gets %q", got)
			}
		}
		forger.offer.seq++
		forger.sends(forger.says(0, headOfA))
		if got := forger.atClient(); got.flags&packet.TCPRST == 0 {
			t.Errorf("who guesses a cookie gets %+v", got)
		}
		if got := payloads(asking.accept()); got != headOfA {
			t.Errorf("the server gets %q", got)
		}
		open.wantsToGoOn()
	})
}

// Rows N5 and N8: a cookie tells the server what the client's SYN has told, with the MSS rounded down.
// A cookie is valid for one to two minutes, and for nobody else.
func TestSYNCookies(t *testing.T) {
	onEachDataPath(t, namedConfig(), func(t *testing.T, r *rig) {
		floods := 0
		flood := func() {
			c := r.talk(outsiders[0], 0)
			c.client = fromRouter(client(floods%250), uint16(1024+floods/250), 80)
			c.put("nic0", c.asks.from(c.client))
			r.got("nic0")
			floods++
		}
		for range userspace.MaxGreetings {
			flood()
		}
		for i, change := range []func(*tcpSegment){
			func(*tcpSegment) {},
			func(s *tcpSegment) { s.mss = 1433 },
			func(s *tcpSegment) { s.mss = 0 },
			func(s *tcpSegment) { s.scale = nil },
			func(s *tcpSegment) { s.permitted = false },
			func(s *tcpSegment) { s.times = nil },
			func(s *tcpSegment) { s.others = []byte{30} },
		} {
			c := r.talk(outsiders[0], uint16(5000+i))
			change(&c.asks)
			c.begin().sends(c.says(0, headOfA))
			want := c.asks
			want.others = nil
			want.mss = map[uint16]uint16{1400: 1400, 1433: 1400, 0: 536}[c.asks.mss]
			if want.times != nil {
				want.times = []uint32{c.clientTime, 0}
			}
			got := c.asksForSegment("a")
			want.window = got.window // a SYN's own is not told
			same(t, "the SYN", got, want)
			if got := payloads(c.accept()); got != headOfA {
				t.Errorf("the server gets %q", got)
			}
			flood() // takes the place that is free again
		}
		late := r.talk(outsiders[0], 6000).begin()
		r.pass(3 * time.Minute)
		r.got("nic0")
		late.sends(late.says(0, headOfA))
		isRST := func(raw []byte) bool { return decode(raw).flags&packet.TCPRST != 0 }
		if !slices.ContainsFunc(r.got("nic0"), isRST) { // beside ARP
			t.Error("who answers a cookie too late gets no RST")
		}
	})
}

// Rows N3 and L1: what clients send without telling a name takes bounded memory: at most 16 KiB of
// each, copies included.
func TestWhatGreetingsHoldIsBounded(t *testing.T) {
	withNames(t, namedConfig(), func(t *testing.T, r *rig, o outsider) {
		c := r.talk(o, 4000).greet()
		head := "GET /" + strings.Repeat("x", 1<<13)
		c.sends(c.says(0, head[:10]))
		for at := range 10 {
			c.sends(c.says(20+at, head[20+at:])) // each holds a little that is new
		}
		time.Sleep(userspace.GreetingTime + 2*maintainInterval)
		c.asksForSegment("b")
		if n := len(payloads(c.accept())); n > 1<<15 {
			t.Errorf("%d bytes are held", n)
		}
	})
}
